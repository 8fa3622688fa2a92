"""Copies of the file of a sqlite store: made while it is written to, and put back. All of this blocks, and is for a thread."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from duplex_services.store._backend import SENTINEL
from duplex_services.store._backends._database import Contents, Database, read_contents
from duplex_services.store._backends._file_lock import FileLock
from duplex_services.store._backends._state import Step
from duplex_services.store._model import Entry, OpenError

#: Told how many pages are done, of how many.
Progress: TypeAlias = Callable[[int, int], None]

#: Pages, of 4 KiB, between two tellings of progress.
_PAGES: Final = 4096

#: What sqlite puts beside a file.
_BESIDE: Final = ("-wal", "-shm")


def no_progress(done: int, whole: int) -> None:
    """Tell nobody."""


def copy_store(source: Path, target: Path, progress: Progress, *, replace: bool) -> Contents:
    """Copy a store's file as it is at one moment, also while somebody writes to it.

    Args:
        source: of a store.
        target: of the copy: one file, which appears when it is whole.
        progress: told how far it is.
        replace: whether the target may be there, and is replaced then.

    Returns:
        What the copy holds.

    Raises:
        OpenError: the source cannot be read, or is no store; or the target is there, is a store that somebody has open, or cannot be
            written. Then nothing is changed.
    """
    if not source.is_file():
        raise OpenError(f"{source}: there is no such file")
    if target.exists() and source.samefile(target):
        raise OpenError(f"{target} is the store itself: name another file")
    with (
        _free(target),
        _new_file(target, replace=replace) as part,
        _sqlite(source, f"{source} cannot be copied"),
    ):
        with (
            contextlib.closing(_connect(source, "ro")) as reading,
            contextlib.closing(_connect(part, "rw")) as writing,
        ):
            # One transaction for all of it: without, sqlite begins again whenever somebody has written.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reading.backup(
                writing, pages=_PAGES, progress=lambda _, left, whole: progress(whole - left, whole)
            )
        return _sealed(part)


def write_copy(entries: Sequence[Entry], revision: int, target: Path, *, replace: bool) -> Contents:
    """Write entries into a file like that of a store; arguments, result and errors as of :func:`copy_store`."""
    with (
        _free(target),
        _new_file(target, replace=replace) as part,
        _sqlite(target, f"{target} cannot be written"),
    ):
        database = Database(part)
        try:
            database.write([Step(revision, {entry.key: entry for entry in entries})])
        finally:
            database.close()
        return _sealed(part)


def read_copy(path: Path) -> Contents:
    """Read what a copy holds, and make sure that it is whole.

    Raises:
        OpenError: it cannot be read, or is no store.
    """
    if not path.is_file():
        raise OpenError(f"{path}: there is no such file")
    with _sqlite(path, f"{path} cannot be read"), contextlib.closing(_connect(path, "ro")) as connection:
        return read_contents(connection, path)


def put_back(copy: Path, place: Path, *, replace: bool) -> Contents:
    """Put a copy in the place of a store's file, which nobody has open. All who use the store will see another epoch.

    Raises:
        OpenError: as :func:`copy_store`; or a process has the store open.
    """
    lock = FileLock(place)
    try:
        with _new_file(place, replace=replace) as part:
            found = copy_store(copy, part, no_progress, replace=True)
            with _sqlite(place, f"{place} cannot be written"):
                with contextlib.closing(_connect(part, "rw")) as connection:
                    connection.execute("DELETE FROM entries WHERE key = ?", (SENTINEL,))
            _settle(place)
        return found
    finally:
        lock.release()


def _settle(place: Path) -> None:
    """Take the log of a file that is to be replaced into it: left there, it would be taken for that of the new one."""
    if place.is_file():
        # What is damaged is replaced with its log.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(place, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    for name in _BESIDE:
        place.with_name(place.name + name).unlink(missing_ok=True)


@contextlib.contextmanager
def _free(target: Path) -> Iterator[None]:
    """Make sure that a file that is to be replaced is no store that somebody has open."""
    if not target.with_name(f"{target.name}.lock").exists():
        yield
        return
    lock = FileLock(target)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _new_file(target: Path, *, replace: bool) -> Iterator[Path]:
    """Give a path beside the target; what is there when the block is left becomes the target, and is on the disk."""
    if not replace and os.path.lexists(target):
        raise OpenError(f"{target} is there already; --force replaces it")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield part
        _sync(part)
        if not replace:
            # Unlike a rename this fails if somebody has made the target meanwhile.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        part.replace(target)
        _sync(target.parent)
    except FileExistsError:
        raise OpenError(f"{target} is there already; --force replaces it") from None
    except OSError as error:
        raise OpenError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        for name in ("", "-journal", *_BESIDE):
            part.with_name(part.name + name).unlink(missing_ok=True)


def _sealed(part: Path) -> Contents:
    """Make one file of a copy, which needs no log beside it, and read what it holds."""
    with contextlib.closing(_connect(part, "rw")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        return read_contents(connection, part)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    name = urllib.parse.quote(str(path))
    return sqlite3.connect(f"file:{name}?mode={mode}", uri=True, isolation_level=None, timeout=5.0)


@contextlib.contextmanager
def _sqlite(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise OpenError(f"{what}: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
