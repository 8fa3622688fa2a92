"""The file of a sqlite store. All of this blocks, and runs in one thread.

WAL and ``synchronous=FULL``: what was acknowledged is on the disk, and a process that is killed loses nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from duplex_services.store._backends._state import Step
from duplex_services.store._model import Entry, OpenError

#: Says that a file is a store's; "Dplx".
_APPLICATION: Final = 0x44706C78
_FORMAT: Final = 1

#: Seconds to wait for another program that has the file locked, such as one that makes a backup.
_BUSY: Final = 2.0

_SCHEMA: Final = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INT, modified INT, lease TEXT)",
    "CREATE TABLE leases (id TEXT PRIMARY KEY, ttl REAL NOT NULL)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INT NOT NULL)",
    "INSERT INTO meta VALUES ('revision', 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)

#: After these nothing was written; after any other the file has to be read again to know.
_HARMLESS: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_TOOBIG,
    }
)

_PLACE_LOST: Final = (
    "was renamed, deleted or replaced while it was in use: what is committed would be lost. "
    "Put it back where it was, or restart this process to begin with what is there now"
)


class Contents(msgspec.Struct, frozen=True):
    """What a file holds."""

    entries: dict[str, Entry]
    revision: int
    leases: dict[str, float]


class NotWritten(Exception):
    """Nothing was written, for a reason that may last."""


class Full(NotWritten):
    """Nothing was written, for want of room."""


class MaybeWritten(Exception):
    """The file failed in the middle; it has to be read again."""


class Database:
    """An open file.

    Args:
        path: where it is, or is made.

    Raises:
        OpenError: it cannot be opened as it is, and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _prepare(path)
        self._log_identity: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self.contents = self._open()

    @property
    def is_open(self) -> bool:
        """Whether it can be written; after :exc:`MaybeWritten` only :meth:`reopen` makes it so."""
        return self._connection is not None

    def reopen(self) -> Contents:
        """Open it again and read what it holds: that decides what was written.

        Raises:
            OpenError: it cannot be opened.
        """
        self.check_place()
        self.contents = self._open()
        return self.contents

    def write(
        self,
        steps: Collection[Step] = (),
        granted: Mapping[str, float] | None = None,
        ended: Iterable[str] = (),
    ) -> None:
        """Write it all or nothing, and return when it is on the disk.

        Raises:
            NotWritten, Full: nothing was written.
            MaybeWritten: nobody knows before it is opened again.
        """
        connection = self._connection
        if connection is None:
            raise NotWritten(f"{self.path} is not open")
        self.check_place()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._write(connection, steps, granted or {}, ended)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(connection, error)
        try:
            self.check_place()
        except NotWritten as error:
            raise MaybeWritten(str(error)) from None

    def check_place(self) -> None:
        """Make sure that the file that is written is the one that the next process will find.

        Raises:
            NotWritten: it is not.
        """
        if _identity(self.path) != self._identity:
            raise NotWritten(f"{self.path} {_PLACE_LOST}")
        log = self.path.with_name(self.path.name + "-wal")
        if self._log_identity is not None and _identity(log) != self._log_identity:
            raise NotWritten(f"{log} {_PLACE_LOST}")

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            # What cannot be tidied up now is when it is opened next.
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            # Its log is gone with it.
            self._log_identity = None

    # ----------------------------------------------------------------------------------------- opening

    def _open(self) -> Contents:
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY)
        except sqlite3.Error as error:
            raise OpenError(f"{self.path} cannot be opened: {error}") from error
        try:
            _check_format(connection, self.path)
            contents = _load(connection, self.path)
            # A write that changes nothing: that it can be written is known now, and its log is there.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE meta SET value = value WHERE name = 'revision'")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.close()
            raise OpenError(_advice(self.path, error)) from error
        except UnicodeDecodeError as error:
            # What sqlite says of a damaged schema quotes it.
            connection.close()
            raise OpenError(_damaged(self.path, "its schema is no text")) from error
        except OpenError:
            connection.close()
            raise
        self._connection = connection
        self._log_identity = _identity(self.path.with_name(self.path.name + "-wal"))
        return contents

    @staticmethod
    def _write(
        connection: sqlite3.Connection,
        steps: Collection[Step],
        granted: Mapping[str, float],
        ended: Iterable[str],
    ) -> None:
        changes: dict[str, Entry | None] = {}
        for step in steps:
            changes.update(step.changes)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (step.revision,))
        connection.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
            [
                (entry.key, entry.value, entry.created, entry.modified, entry.lease)
                for entry in changes.values()
                if entry is not None
            ],
        )
        gone = [(key,) for key, entry in changes.items() if entry is None]
        connection.executemany("DELETE FROM entries WHERE key = ?", gone)
        connection.executemany("INSERT INTO leases VALUES (?, ?)", granted.items())
        connection.executemany("DELETE FROM leases WHERE id = ?", [(lease,) for lease in ended])

    def _fail(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        """Undo what was begun, and say what became of it."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            code = sqlite3.SQLITE_IOERR
        if code == sqlite3.SQLITE_FULL:
            raise Full(
                f"the disk of {self.path} is full; nothing was changed, and nothing can be deleted either"
            ) from error
        if code in _HARMLESS:
            raise NotWritten(f"{self.path} cannot be written: {error}") from error
        self.close()
        raise MaybeWritten(f"{self.path} failed: {error}") from error


def _prepare(path: Path) -> tuple[int, int]:
    """Make sure that there is a file that can be read and written; return its identity."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except IsADirectoryError:
        raise OpenError(f"{path} is a folder, not the file of a store") from None
    except OSError as error:
        raise OpenError(f"{path} cannot be opened for reading and writing: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OpenError(f"{path} is no regular file")
    return found.st_dev, found.st_ino


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Look what this is before anything is changed; make a store of what is empty."""
    is_empty = _is_empty(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OpenError(f"{path} cannot have a write-ahead log (mode {mode}): put the store on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    if is_empty:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there is nothing in it yet; what is there is a store's that we can read."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    is_empty = (application, version, tables) == (0, 0, 0)
    if not is_empty and application != _APPLICATION:
        raise OpenError(f"{path} is a database of something else, not a store: name another path")
    if version > _FORMAT:
        raise OpenError(
            f"{path} was written by a newer Duplex (format {version}, this one knows {_FORMAT}): upgrade"
        )
    return is_empty


def read_contents(connection: sqlite3.Connection, path: Path) -> Contents:
    """Read what the file of a store holds, and change nothing.

    Raises:
        OpenError: it is no store's, or damaged.
        sqlite3.Error: it cannot be read.
    """
    if _is_empty(connection, path):
        raise OpenError(f"{path} is empty: no store was ever opened there")
    return _load(connection, path)


def _load(connection: sqlite3.Connection, path: Path) -> Contents:
    found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise OpenError(_damaged(path, "; ".join(map(str, found))))
    entries = {}
    for row in connection.execute("SELECT key, value, created, modified, lease FROM entries"):
        _check_types(row, (str, bytes, int, int, (str, type(None))), path)
        entries[row[0]] = Entry(*row)
    leases = {}
    for row in connection.execute("SELECT id, ttl FROM leases"):
        _check_types(row, (str, float), path)
        leases[row[0]] = row[1]
    row = connection.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()
    _check_types(row or (), (int,), path)
    return Contents(entries, row[0], leases)


def _check_types(row: tuple[object, ...], types: tuple[type | tuple[type, ...], ...], path: Path) -> None:
    """Make sure that a row holds what is written there: sqlite keeps anything in any column."""
    if len(row) != len(types) or not all(map(isinstance, row, types)):
        raise OpenError(_damaged(path, f"no store has written {row!r:.100}"))


def _advice(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_BUSY:
        return f"{path} is locked by another program that uses the file: end it ({error})"
    return f"{path} cannot be opened: {error}"


def _damaged(path: Path, why: str) -> str:
    return (
        f"{path} is damaged ({why}). Move it aside, with {path.name}-wal and {path.name}-shm, and put a backup in its "
        "place; or start without, with an empty store, which all who use it will see as a new epoch"
    )
