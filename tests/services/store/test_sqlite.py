"""``sqlite:``: the contract, and what may become of a file, its disk, and the process that has it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services.store import (
    LeaseLost,
    OpenError,
    Refused,
    Store,
    StoreError,
    Unavailable,
    Unknown,
    last_writer_wins,
    missing,
    open_store,
)
from duplex_services.store._backends._database import Database, NotWritten, _check_format
from duplex_services.store._backends._file_lock import FileLock
from duplex_services.store._backends._sqlite import SqliteBackend
from duplex_services.store._backends._sqlite import open_backend as open_sqlite
from duplex_services.store._model import Commit
from duplex_services.store._url import parse_url
from duplex_services.store.testing import CHECKS, Faults, check_store
from duplex_services.store.testing._tools import all_at_once
from tests.machine import within
from tests.services.store.crash import kill

ANY = last_writer_wins

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextlib.asynccontextmanager
async def open_file(path: Path) -> AsyncIterator[tuple[Store, SqliteBackend]]:
    async with open_sqlite(parse_url(f"sqlite:{path}")) as backend:
        async with open_store(contextlib.nullcontext(backend), verify_every=2.0) as store:
            yield store, backend


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(within(10)):
        while not condition():
            # The backend looks at the real clock.
            await trio.sleep(0.05)


# ------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    "check", [name for name in CHECKS if name.partition("_")[0] not in Faults.__struct_fields__]
)
async def test_check(check: str, path: Path) -> None:
    async with open_sqlite(parse_url(f"sqlite:{path}")) as backend:
        (result,) = await check_store(
            lambda **options: open_store(contextlib.nullcontext(backend), **options),
            only=[check],
            ttl=2.0,
            slack=within(10),
        )
        assert result.left_out == ""


async def test_it_is_all_there_when_it_is_opened_again(path: Path) -> None:
    async with open_store(f"sqlite:{path}") as store:
        await store.commit({"a": b"\0\xff", "b": b"", "c": b"x"}, when=ANY)
        await store.commit(deletes=["c"], when=ANY)
        before = await store.list()
        own = await store.list("_")
    async with open_store(f"sqlite:{path}") as store:
        assert await store.list() == before
        assert await store.list("_") == own
        assert await store.commit({"d": b""}, when=ANY) == before.revision + 1


async def test_many_commits_are_written_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0
    write = Database.write

    def counted(self: Database, *arguments: Any) -> None:
        nonlocal writes
        writes += 1
        write(self, *arguments)

    monkeypatch.setattr(Database, "write", counted)
    async with open_store(f"sqlite:{path}") as store:
        writes = 0
        revisions = await all_at_once(
            [
                partial(store.commit, {f"k{number}": b""}, when=[missing(f"k{number}")])
                for number in range(200)
            ]
        )
    assert len(set(revisions)) == 200, "each has a revision of its own here"
    assert writes < 20


async def test_the_disk_is_never_touched_on_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def seen(name: str) -> Callable[..., Any]:
        original = getattr(Database, name)

        def method(self: Database, *arguments: Any) -> Any:
            threads.add(threading.current_thread().name)
            return original(self, *arguments)

        return method

    for name in ("__init__", "write", "check_place", "close"):
        monkeypatch.setattr(Database, name, seen(name))
    async with open_store(f"sqlite:{path}") as store:
        await store.commit({"a": b""}, when=ANY)
    assert threads == {"duplex-store"}
    assert not any(thread.name == "duplex-store" for thread in threading.enumerate())


# ------------------------------------------------------------------------------------------------- owners


async def test_a_second_owner_is_told_who_the_first_is(path: Path) -> None:
    program = (
        "import sys, trio\nfrom duplex_services.store import open_store\n"
        "async def main():\n    async with open_store(sys.argv[1]):\n        print('mine')\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", program, f"sqlite:{path}"]
    async with open_store(f"sqlite:{path}") as store:
        ran = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert f"store.db is in use by process {os.getpid()} on " in ran.stderr.decode()
        with pytest.raises(OpenError, match="in use by this process, which has had it open since 20"):
            async with open_store(f"sqlite:{path}"):
                pass
        await store.commit({"a": b""}, when=ANY)
    ran = await trio.run_process(command, capture_stdout=True)
    assert ran.stdout == b"mine\n"


async def test_a_lock_that_says_nothing(path: Path) -> None:
    async with open_store(f"sqlite:{path}"):
        path.with_name("store.db.lock").write_text("rubbish")
        with pytest.raises(OpenError, match="in use by another process; one process at a time"):
            async with open_store(f"sqlite:{path}"):
                pass


async def test_a_fork_does_not_hold_the_file(path: Path) -> None:
    reading, writing = os.pipe()
    async with open_store(f"sqlite:{path}"):
        pid = os.fork()
        if pid == 0:
            # Lives until it is killed, and keeps nothing but what it was born with.
            os.write(writing, b".")
            signal.pause()
            os._exit(0)
        assert os.read(reading, 1) == b"."
    try:
        async with open_store(f"sqlite:{path}") as store:
            await store.commit({"a": b""}, when=ANY)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_killed_at_random_moments_it_loses_nothing() -> None:
    tally = kill(4, seed=11)
    assert tally.kills == 4
    assert tally.acknowledged > 20
    assert (tally.lost, tally.torn) == (0, 0)


# ------------------------------------------------------------------------------------ the file moves away


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_that_was_renamed(path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    place = path.with_name(path.name + suffix)
    async with open_file(path) as (store, _), store.watch() as watch:
        revision = await store.commit({"a": b"1"}, when=ANY)
        await watch.receive()
        place.rename(path.with_name("moved"))
        with pytest.raises(Unavailable, match="was renamed, deleted or replaced while it was in use"):
            await store.commit({"a": b"2"}, when=ANY)
        with trio.fail_after(within(10)):
            while (await watch.receive()).stale_since is None:
                pass
        for ask in (store.get("a"), store.list()):
            with pytest.raises(Unavailable, match="Put it back where it was"):
                await ask
        path.with_name("moved").rename(place)
        with trio.fail_after(within(10)):
            while (await watch.receive()).stale_since is not None:
                pass
        entry = await store.get("a")
        assert entry is not None
        assert entry.modified == revision
        await store.commit({"a": b"3"}, when=ANY)
    assert caplog.text.count("was renamed, deleted or replaced while it was in use") == 1


# The next look at the file logs what is wrong, if the test lasts until then.
@pytest.mark.usefixtures("caplog")
async def test_a_file_that_was_deleted_and_made_anew(path: Path) -> None:
    async with open_file(path) as (store, _):
        await store.commit({"a": b"1"}, when=ANY)
        path.unlink()
        path.touch()
        with pytest.raises(Unavailable, match="was renamed, deleted or replaced"):
            await store.commit({"a": b"2"}, when=ANY)


@pytest.mark.usefixtures("caplog")
async def test_a_file_that_goes_while_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Database._write

    def written_elsewhere(*arguments: Any) -> None:
        write(*arguments)
        if path.exists():
            path.rename(path.with_name("moved"))

    async with open_file(path) as (store, _):
        monkeypatch.setattr(Database, "_write", staticmethod(written_elsewhere))
        with pytest.raises(Unknown, match="was renamed"):
            await store.commit({"a": b"1"}, when=ANY)


# ------------------------------------------------------------------------------------- the disk has faults


async def test_a_disk_that_is_full(path: Path) -> None:
    async with open_file(path) as (store, backend):
        revision = await store.commit({"a": b"1"}, when=ANY)
        connection = backend._database._connection
        assert connection is not None
        (pages,) = await backend._thread.run(lambda: connection.execute("PRAGMA page_count").fetchone())
        limit = f"PRAGMA max_page_count = {pages + 2}"
        await backend._thread.run(lambda: connection.execute(limit).fetchall())
        kept = []
        with pytest.raises(Refused, match=r"the disk of .* is full; nothing was changed"):  # noqa: PT012
            for number in range(100):
                await store.commit({f"big/{number}": bytes(5000)}, when=ANY)
                kept.append(f"big/{number}")
        with pytest.raises(Refused, match="is full"):
            async with store.lease(5) as lease:
                await store.commit({"big/leased": bytes(20_000)}, when=ANY, lease=lease)
        assert [entry.key for entry in (await store.list("big/")).entries] == kept
        await backend._thread.run(lambda: connection.execute("PRAGMA max_page_count = 100000").fetchall())
        assert await store.commit({"big/last": bytes(5000)}, when=ANY) > revision
    async with open_file(path) as (store, _):
        assert len((await store.list("big/")).entries) == len(kept) + 1


class Failing:
    """A connection of which one statement fails, before or after it is carried out."""

    def __init__(self, connection: sqlite3.Connection, statement: str, *, is_done: bool, code: int) -> None:
        self._connection = connection
        self._statement = statement
        self._is_done = is_done
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement != self._statement:
            return self._connection.execute(statement, *arguments)
        if self._is_done:
            self._connection.execute(statement, *arguments)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = self._code
        raise error


async def fail(
    backend: SqliteBackend, statement: str, *, is_done: bool, code: int = sqlite3.SQLITE_IOERR_FSYNC
) -> None:
    database = backend._database
    assert database._connection is not None
    database._connection = Failing(database._connection, statement, is_done=is_done, code=code)  # type: ignore[assignment]


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_disk_that_fails_is_asked_again_what_it_has(path: Path, is_done: bool) -> None:
    async with open_file(path) as (store, backend), store.watch() as watch:
        await store.commit({"a": b"1"}, when=ANY)
        await watch.receive()
        await fail(backend, "COMMIT", is_done=is_done)
        with pytest.raises(Unknown, match=r"store\.db failed: disk I/O error"):
            await store.commit({"a": b"2"}, when=ANY)
        await store.commit({"b": b""}, when=ANY)
        entry = await store.get("a")
        assert entry is not None
        assert entry.value == (b"2" if is_done else b"1")
        with trio.fail_after(within(10)):
            while not any(entry.key == "b" for entry in (await watch.receive()).puts):
                pass
    async with open_file(path) as (store, _):
        assert [one.value for one in (await store.list()).entries] == [entry.value, b""]


async def test_a_disk_that_fails_and_cannot_be_undone(path: Path) -> None:
    async with open_file(path) as (store, backend):
        database = backend._database
        await fail(
            backend,
            "UPDATE meta SET value = ? WHERE name = 'revision'",
            is_done=False,
            code=sqlite3.SQLITE_FULL,
        )
        inner: Any = database._connection
        database._connection = Failing(inner, "ROLLBACK", is_done=False, code=sqlite3.SQLITE_IOERR)  # type: ignore[assignment]
        with pytest.raises(Unknown, match="failed"):
            await store.commit({"a": b"2"}, when=ANY)
        await store.commit({"b": b""}, when=ANY)
        assert await store.get("a") is None


async def test_a_file_that_is_locked_by_another_program(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.store._backends._database._BUSY", 0.1)
    async with open_file(path) as (store, _):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="cannot be written: database is locked"):
            await store.commit({"a": b""}, when=ANY)
        with pytest.raises(Unavailable, match="cannot be written"):
            async with store.lease(5):
                pass
        other.execute("ROLLBACK")
        other.close()
        await store.commit({"a": b""}, when=ANY)
        # Who only reads is no trouble, such as a backup.
        reader = sqlite3.connect(path)
        assert reader.execute("SELECT value FROM entries WHERE key = 'a'").fetchall() == [(b"",)]
        reader.close()


async def test_while_it_cannot_be_opened_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_file(path) as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        await fail(backend, "COMMIT", is_done=False)
        with pytest.raises(Unknown):
            await store.commit({"a": b"2"}, when=ANY)
        good = path.read_bytes()
        path.write_bytes(b"rubbish" * 1000)
        with pytest.raises(Unavailable, match="is damaged"):
            await store.commit({"a": b"3"}, when=ANY)
        await until(lambda: backend._trouble is not None)
        with pytest.raises(Unavailable, match="is damaged"):
            await store.list()
        path.write_bytes(good)
        await until(lambda: backend._trouble is None)
        assert await store.get("a") is not None
    assert "is damaged" in caplog.text


# ------------------------------------------------------------------------------------------------- leases


async def test_leases_are_kept_over_a_restart(path: Path) -> None:
    async with open_file(path) as (store, backend):
        grant = await backend.grant(1.5)
        assert grant.gone_within >= 4.5
        alive = await backend.grant(1.5)
        await backend.beat(alive.id)
        for key, lease in (("dead", grant.id), ("alive", alive.id)):
            await store._queue.submit(Commit({key: b""}, lease=lease))
    async with open_file(path) as (store, backend), store.watch() as watch:
        first = await watch.receive()
        assert [entry.key for entry in first.puts] == ["alive", "dead"]
        deleted: tuple[str, ...] = ()
        with trio.fail_after(within(20)):
            while not deleted:
                await backend.beat(alive.id)
                with trio.move_on_after(0.1):
                    deleted = (await watch.receive()).deletes
        assert deleted == ("dead",)
        with pytest.raises(LeaseLost):
            await backend.beat(grant.id)


async def test_a_lease_ends_when_there_is_room_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.store._backends._sqlite._LOOK_EVERY", 0.05)
    async with open_file(path) as (store, backend):
        grant = await backend.grant(0.2)
        await store._queue.submit(Commit({"a": b""}, lease=grant.id))
        write = backend._database.write
        refused = threading.Event()

        def no_room(*arguments: Any) -> None:
            refused.set()
            raise NotWritten("no room")

        monkeypatch.setattr(backend._database, "write", no_room)
        await until(refused.is_set)
        assert await store.get("a") is not None
        monkeypatch.setattr(backend._database, "write", write)
        with trio.fail_after(within(10)):
            while await store.get("a") is not None:
                # The lease ends by the real clock.
                await trio.sleep(0.02)


# ------------------------------------------------------------------------------------------------ opening


async def refusal(path: Path) -> str:
    with pytest.raises(OpenError) as error:
        async with open_store(f"sqlite:{path}"):
            pass
    return str(error.value)


@pytest.mark.parametrize(
    "url", ["sqlite:", "sqlite://host/x", "sqlite://", "sqlite:x?mode=ro", "sqlite://u@/x"]
)
async def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(duplex.ConfigurationError):
        async with open_store(url):
            pass


async def test_there_is_no_folder(path: Path) -> None:
    assert "store.db.lock: there is no folder" in await refusal(path.parent / "none" / "store.db")


async def test_it_is_a_folder(tmp_path: Path) -> None:
    assert "is a folder, not the file of a store" in await refusal(tmp_path)


async def test_it_is_no_file(path: Path) -> None:
    os.mkfifo(path)
    assert "is no regular file" in await refusal(path)


async def test_it_is_a_database_of_something_else(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE x (y)")
        other.commit()
    before = path.read_bytes()
    assert "is a database of something else" in await refusal(path)
    assert path.read_bytes() == before, "it is left as it was"


async def test_it_is_of_a_newer_version(path: Path) -> None:
    async with open_store(f"sqlite:{path}"):
        pass
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 9")
    assert "written by a newer Duplex (format 9, this one knows 1): upgrade" in await refusal(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"rubbish" * 1000,
        lambda data: data[:5000],
        lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
        lambda data: data[:30] + b"\xff" * 60 + data[90:],
    ],
)
async def test_it_is_damaged(path: Path, harm: Callable[[bytes], bytes]) -> None:
    async with open_store(f"sqlite:{path}") as store:
        for number in range(50):
            await store.commit({f"k{number}": bytes(300)}, when=ANY)
    path.write_bytes(harm(path.read_bytes()))
    message = await refusal(path)
    assert "store.db is damaged (" in message or "something else" in message or "newer" in message
    assert "something else" in message or "newer" in message or "put a backup in its place" in message


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET value = 'text'",
        "UPDATE entries SET modified = 'x'",
        "UPDATE entries SET created = NULL",
        "UPDATE entries SET key = x'ff' WHERE key = 'a'",
        "UPDATE meta SET value = 'x'",
        "DELETE FROM meta",
        "INSERT INTO leases VALUES ('x', 'y')",
    ],
)
async def test_it_holds_what_no_store_writes(path: Path, statement: str) -> None:
    async with open_store(f"sqlite:{path}") as store:
        await store.commit({"a": b""}, when=ANY)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(statement)
        other.commit()
    assert "is damaged" in await refusal(path)


async def test_it_is_locked_by_another_program(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.store._backends._database._BUSY", 0.1)
    async with open_store(f"sqlite:{path}"):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked by another program that uses the file: end it" in await refusal(path)


async def test_it_is_where_no_log_can_be(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        with pytest.raises(
            OpenError, match=r"cannot have a write-ahead log \(mode memory\): put the store on a local"
        ):
            _check_format(other, path)


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        ("fcntl.flock", errno.ENOLCK, r"cannot be locked \(.*\): put the store on a local disk"),
        ("os.open", errno.EACCES, r"store\.db\.lock cannot be opened: Permission denied"),
    ],
)
def test_there_can_be_no_lock(
    path: Path, function: str, code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(function, refuse)
    with pytest.raises(OpenError, match=reason):
        FileLock(path)


def test_what_is_closed_is_not_written(path: Path) -> None:
    database = Database(path)
    database.close()
    database.close()
    with pytest.raises(NotWritten, match="is not open"):
        database.write()


def test_it_may_not_be_written() -> None:
    program = (
        "import os, sys, trio\n"
        "from duplex_services.store import OpenError, open_store\n"
        "import duplex_services.store._backends._sqlite\n"
        "if os.geteuid() == 0:\n    os.setuid(65534)\n"
        "async def main():\n"
        "    try:\n        async with open_store(sys.argv[1]):\n            print('open')\n"
        "    except OpenError as error:\n        print(error)\n"
        "trio.run(main)\n"
    )
    # Not below pytest's folder, which is closed to all others.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        path.touch(0o444)
        path.with_name("store.db.lock").touch(0o666)
        path.with_name("store.db.lock").chmod(0o666)
        path.parent.chmod(0o777)
        ran = subprocess.run(
            [sys.executable, "-c", program, f"sqlite:{path}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=within(60),
        )
    assert "store.db cannot be opened for reading and writing: Permission denied" in ran.stdout


async def test_what_is_new_is_for_its_owner_alone(path: Path) -> None:
    async with open_store(f"sqlite:{path}") as store:
        await store.commit({"a": b"secret"}, when=ANY)
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    with pytest.raises(StoreError, match="closed"):
        await store.commit({"a": b""}, when=ANY)
