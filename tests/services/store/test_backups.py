"""Backups: of a store that is written to, put back there and elsewhere, and what is refused."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

import duplex
from duplex_services.discovery._backup_commands import store_of
from duplex_services.store import (
    OpenError,
    Refused,
    Unavailable,
    last_writer_wins,
    missing,
    open_store,
    store_service,
)
from duplex_services.store._backends import _copying
from duplex_services.store._backends._copying import copy_store
from duplex_services.store._backends._file_lock import FileLock
from duplex_services.store.backups import back_up, restore
from duplex_services.store.commands import _Progress
from tests.machine import fail_after, within
from tests.services.shell import Shell

ANY = last_writer_wins

pytestmark = pytest.mark.slow


async def held(url: str) -> dict[str, bytes]:
    async with open_store(url) as store:
        return {entry.key: entry.value for entry in (await store.list()).entries}


async def fill(url: str, values: dict[str, bytes]) -> str:
    """Put values, and return the epoch."""
    async with open_store(url) as store:
        for key, value in values.items():
            await store.commit({key: value}, when=ANY)
        return (await store.list()).epoch


# -- of a file -------------------------------------------------------------------------------------------


async def test_a_file_is_copied_as_it_was_at_one_moment_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each page of the copy somebody writes: without one transaction for all of it, it would begin again each time."""
    monkeypatch.setattr(_copying, "_PAGES", 1)
    source, target = tmp_path / "store.db", tmp_path / "copy.db"
    told: list[tuple[int, int]] = []
    async with open_store(f"sqlite:{source}") as store:
        for number in range(40):
            await store.commit({f"k{number}": bytes(10_000)}, when=ANY)
        await store.commit({"a": b"0", "b": b"0"}, when=ANY)
        before = (await store.list()).revision

        async def write() -> None:
            value = b"%d" % len(told)
            await store.commit({"a": value, "b": value}, when=ANY)

        def progress(done: int, whole: int) -> None:
            told.append((done, whole))
            assert len(told) < 1000, "it begins again and again"
            trio.from_thread.run(write)

        with fail_after(30):
            made = await back_up(f"sqlite:{source}", target, progress=progress)
        assert (await store.get("a")) is not None
    assert (made.keys, made.revision, made.size) == (42, before, target.stat().st_size)
    assert len(told) > 50
    assert told[-1][0] == told[-1][1]
    found = await held(f"sqlite:{target}")
    assert (found["a"], found["b"], len(found)) == (b"0", b"0", 42)
    # One file, for its owner alone.
    assert target.stat().st_mode & 0o777 == 0o600


async def test_backups_of_a_file_that_a_process_writes_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-m", "tests.services.store.crash", "write", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        output = child.stdout
        await trio.to_thread.run_sync(output.readline)
        async with trio.open_nursery() as nursery:
            # It would stand still at a full pipe.
            nursery.start_soon(trio.to_thread.run_sync, output.read, -1)
            made = [await back_up(f"sqlite:{path}", tmp_path / f"{number}.db") for number in range(8)]
            child.kill()
    assert sorted(made, key=lambda one: one.revision) == made
    assert len({one.revision for one in made}) > 1
    for number in range(8):
        found = await held(f"sqlite:{tmp_path}/{number}.db")
        counts = {key.partition("/")[2]: value for key, value in found.items() if key.startswith("count/")}
        assert counts
        for writer, value in counts.items():
            assert found[f"pair/{writer}"] == value


async def test_a_file_that_nobody_has_open(tmp_path: Path) -> None:
    await fill(f"sqlite:{tmp_path}/store.db", {"a": b"1"})
    made = await back_up(f"sqlite:{tmp_path}/store.db", tmp_path / "copy.db")
    assert (made.keys, made.left_out) == (1, 0)
    assert await held(f"sqlite:{tmp_path}/copy.db") == {"a": b"1"}


async def test_what_is_put_back_is_a_new_life_of_the_store(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    epoch = await fill(url, {"a": b"1", "b": b"2"})
    await back_up(url, tmp_path / "copy.db")
    await fill(url, {"a": b"later", "c": b"3"})
    copy = (tmp_path / "copy.db").read_bytes()
    with pytest.raises(OpenError, match=r"store.db is there already; --force replaces it"):
        await restore(tmp_path / "copy.db", url)
    assert (await held(url))["a"] == b"later"
    found = await restore(tmp_path / "copy.db", url, replace=True)
    assert (found.keys, found.left_out) == (2, 0)
    async with open_store(url) as store:
        snapshot = await store.list()
        assert [(entry.key, entry.value) for entry in snapshot.entries] == [("a", b"1"), ("b", b"2")]
        assert snapshot.epoch != epoch
    assert (tmp_path / "copy.db").read_bytes() == copy


async def test_a_log_that_a_killed_process_left_is_no_part_of_what_is_put_back(tmp_path: Path) -> None:
    url, path = f"sqlite:{tmp_path}/store.db", tmp_path / "store.db"
    await fill(url, {"a": b"1"})
    await back_up(url, tmp_path / "copy.db")
    script = f"""
import os, trio
from duplex_services.store import open_store, last_writer_wins
async def main():
    async with open_store("{url}") as store:
        for n in range(50):
            await store.commit({{"k%d" % n: b"later"}}, when=last_writer_wins)
        os.kill(os.getpid(), 9)
trio.run(main)
"""
    await trio.run_process([sys.executable, "-c", script], check=False)
    assert path.with_name("store.db-wal").stat().st_size
    await restore(tmp_path / "copy.db", url, replace=True)
    assert await held(url) == {"a": b"1"}


async def test_a_damaged_store_is_replaced(tmp_path: Path) -> None:
    url, path = f"sqlite:{tmp_path}/store.db", tmp_path / "store.db"
    await fill(url, {"a": b"1"})
    await back_up(url, tmp_path / "copy.db")
    path.write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(OpenError, match="cannot be copied: file is not a database"):
        await back_up(url, tmp_path / "other.db")
    await restore(tmp_path / "copy.db", url, replace=True)
    assert await held(url) == {"a": b"1"}
    assert not list(tmp_path.glob(".*"))


async def test_a_file_in_use_is_not_replaced(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    await fill(url, {"a": b"1"})
    await back_up(url, tmp_path / "copy.db")
    async with open_store(url) as store:
        with pytest.raises(OpenError, match="is in use by this process"):
            await restore(tmp_path / "copy.db", url, replace=True)
        await store.commit({"a": b"2"}, when=ANY)
    # And a failure leaves no lock behind.
    with pytest.raises(OpenError, match="there already"):
        await restore(tmp_path / "copy.db", url)
    FileLock(tmp_path / "store.db").release()


async def test_what_cannot_be_backed_up(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    with pytest.raises(OpenError, match=r"store.db: there is no such file"):
        await back_up(url, tmp_path / "copy.db")
    (tmp_path / "store.db").touch()
    with pytest.raises(OpenError, match="is empty: no store was ever opened there"):
        await back_up(url, tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(OpenError, match="a database of something else"):
        await back_up(f"sqlite:{tmp_path}/other.db", tmp_path / "copy.db")
    (tmp_path / "store.db").unlink()
    await fill(url, {"a": b"1"})
    with pytest.raises(OpenError, match="cannot be written: No such file or directory"):
        await back_up(url, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(duplex.ConfigurationError, match="in the memory of one process"):
        await back_up("memory:x", tmp_path / "copy.db")
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(OpenError, match=r"copy.db is there already"):
        await back_up(url, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"
    await back_up(url, tmp_path / "copy.db", replace=True)
    assert not list(tmp_path.glob(".*"))


async def test_a_store_that_somebody_has_open_is_no_place_for_a_backup(tmp_path: Path) -> None:
    """Its owner would find its file replaced."""
    url, other = f"sqlite:{tmp_path}/store.db", f"sqlite:{tmp_path}/other.db"
    async with open_store(url) as store, open_store(other):
        await store.commit({"a": b"1"}, when=ANY)
        with pytest.raises(OpenError, match=r"store.db is the store itself"):
            await back_up(url, tmp_path / "store.db", replace=True)
        with pytest.raises(OpenError, match=r"other.db is in use by this process"):
            await back_up(url, tmp_path / "other.db", replace=True)
        await store.commit({"a": b"2"}, when=ANY)
    await back_up(url, tmp_path / "other.db", replace=True)
    assert await held(other) == {"a": b"2"}


async def test_a_target_that_somebody_makes_meanwhile_stays(tmp_path: Path) -> None:
    url, target = f"sqlite:{tmp_path}/store.db", tmp_path / "copy.db"
    await fill(url, {"a": b"1"})

    def make(done: int, whole: int) -> None:
        target.write_text("mine")

    with pytest.raises(OpenError, match="there already"):
        await back_up(url, target, progress=make)
    assert target.read_text() == "mine"


async def test_what_is_no_backup(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    await fill(url, {"a": b"1"})
    with pytest.raises(OpenError, match=r"copy.db: there is no such file"):
        await restore(tmp_path / "copy.db", url, replace=True)
    (tmp_path / "copy.db").write_bytes(b"no database of any kind" * 100)
    with pytest.raises(OpenError, match="not a database"):
        await restore(tmp_path / "copy.db", url, replace=True)
    assert await held(url) == {"a": b"1"}


def test_a_copy_that_is_damaged_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was copied is read before anybody sees it."""
    trio.run(fill, f"sqlite:{tmp_path}/store.db", {"a": b"1"})

    def spoil(done: int, whole: int) -> None:
        (part,) = tmp_path.glob(".copy.db.????????")
        with part.open("r+b") as file:
            file.seek(4096)
            file.write(bytes(4096))

    with pytest.raises(OpenError, match="damaged"):
        copy_store(tmp_path / "store.db", tmp_path / "copy.db", spoil, replace=False)
    assert not (tmp_path / "copy.db").exists()


# -- of other stores -------------------------------------------------------------------------------------


async def test_a_served_store_and_back(tmp_path: Path) -> None:
    """Of a store that is no file: more keys than one commit takes, and large values."""
    values = {f"k/{number}": b"%d" % number for number in range(130)}
    values |= {f"large/{number}": bytes(100_000) for number in range(4)}
    async with (
        open_store("memory:") as store,
        duplex.open_peer(services=[store_service(store)]) as peer,
    ):
        await peer.bind(f"ipc://{tmp_path}/s.sock")
        url = f"duplex+ipc://{tmp_path}/s.sock"
        for key, value in values.items():
            await store.commit({key: value}, when=ANY)
        async with store.lease(60) as lease:
            await store.commit({"held": b""}, when=[missing("held")], lease=lease)
            made = await back_up(url, tmp_path / "copy.db")
        assert (made.keys, made.left_out) == (134, 1)
        assert await held(f"sqlite:{tmp_path}/copy.db") == values
        with pytest.raises(OpenError, match="there already"):
            await back_up(url, tmp_path / "copy.db")

        await store.commit({"k/1": b"other", "k/new": b""}, when=ANY)
        with pytest.raises(Refused, match="holds 135 keys already; --force"):
            await restore(tmp_path / "copy.db", url)
        assert (await restore(tmp_path / "copy.db", url, replace=True)).keys == 134
        assert await held(url) == values
    async with (
        open_store("memory:") as store,
        duplex.open_peer(services=[store_service(store)]) as peer,
    ):
        await peer.bind(f"ipc://{tmp_path}/t.sock")
        assert (await restore(tmp_path / "copy.db", f"duplex+ipc://{tmp_path}/t.sock")).left_out == 0
        assert await held(f"duplex+ipc://{tmp_path}/t.sock") == values


async def test_keys_under_leases_go_back_into_a_file_alone(tmp_path: Path) -> None:
    """In a file there are the leases too, which end if nobody keeps them; elsewhere they would stay for ever."""
    url = f"sqlite:{tmp_path}/store.db"
    async with open_store(url) as store, store.lease(2) as lease:
        await store.commit({"held": b"", "kept": b""}, when=ANY, lease=lease)
        await store.commit({"kept": b""}, when=ANY)
        made = await back_up(url, tmp_path / "copy.db")
    assert (made.keys, made.left_out) == (2, 0)
    async with (
        open_store("memory:") as store,
        duplex.open_peer(services=[store_service(store)]) as peer,
    ):
        await peer.bind(f"ipc://{tmp_path}/s.sock")
        found = await restore(tmp_path / "copy.db", f"duplex+ipc://{tmp_path}/s.sock")
        assert (found.keys, found.left_out) == (2, 1)
        assert [entry.key for entry in (await store.list()).entries] == ["kept"]
    await restore(tmp_path / "copy.db", url, replace=True)
    async with open_store(url) as store, store.watch() as updates:
        known: set[str] = set()
        with fail_after(20):
            async for update in updates:
                known |= {entry.key for entry in update.puts}
                known -= set(update.deletes)
                if known == {"kept"}:
                    break


async def test_a_store_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await back_up(f"duplex+ipc://{tmp_path}/s.sock", tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


# -- the commands ----------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path) as shell:
        yield shell


def test_a_store_served_and_backed_up_from_a_shell(shell: Shell) -> None:
    path, copy = shell.folder / "store.db", shell.folder / "copy.db"
    server = shell.start(
        "store",
        "serve",
        "--store",
        f"sqlite:{path}",
        "--no-socket",
        "--bind",
        f"ipc://{shell.folder}/run/s.sock",
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    assert url == f"duplex+ipc://{shell.folder}/run/s.sock", server.communicate()
    trio.run(fill, url, {"a": b"1", "b": b"2"})

    code, out, err = shell.run("store", "backup", str(copy), "--store", f"sqlite:{path}")
    assert (code, err) == (0, "")
    assert out.startswith(f"{copy}: 2 keys, of revision ")
    code, out, err = shell.run("store", "backup", str(copy), "--store", url)
    assert (code, out) == (1, "")
    assert err == f"error: {copy} is there already; --force replaces it\n"
    assert shell.run("store", "backup", str(copy), "--store", url, "--force")[0] == 0

    trio.run(fill, url, {"a": b"later"})
    code, _, err = shell.run("store", "restore", str(copy), "--store", f"sqlite:{path}", "--force")
    assert code == 1
    assert f"is in use by process {server.pid}" in err
    server.send_signal(signal.SIGTERM)
    assert server.wait(within(20)) == 0
    code, out, _ = shell.run("store", "restore", str(copy), "--store", f"sqlite:{path}", "--force")
    assert (code, out[: out.index(",")]) == (0, "2 keys are back")
    assert trio.run(held, f"sqlite:{path}") == {"a": b"1", "b": b"2"}


def test_faults_of_the_command_line(shell: Shell) -> None:
    code, _, err = shell.run("store", "run", "--no-socket")
    assert (code, "say where with --bind" in err) == (2, True)
    code, _, err = shell.run(
        "store", "run", "--store", "mysql://x", "--no-socket", "--bind", "tcp://127.0.0.1:*"
    )
    assert (code, "there is no kind of store 'mysql'" in err) == (2, True)
    code, _, err = shell.run("store", "backup", str(shell.folder / "b.db"), "--store", "memory:")
    assert (code, "nothing to keep" in err) == (2, True)
    code, _, err = shell.run("store", "backup", str(shell.folder / "b.db"), "--store", "sqlite:nowhere.db")
    assert (code, "no such file" in err) == (1, True)


def test_progress_is_drawn_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = _Progress()
    progress(1, 4)
    progress(2, 4)  # too soon after the one before
    progress.end()
    assert capsys.readouterr().err == "\r\x1b[K25 % of 4 pages\r\x1b[K"
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    silent = _Progress()
    silent(1, 4)
    silent.end()
    assert capsys.readouterr().err == ""


def test_where_a_directory_is(tmp_path: Path) -> None:
    assert store_of("consul-catalog://h/p", None) == "consul://h/p"
    assert store_of(None, tmp_path / "new") == f"sqlite:{tmp_path}/new/directory.db"


def test_discovery_is_backed_up_while_it_serves(shell: Shell) -> None:
    state, copy = shell.folder / "state", shell.folder / "copy.db"
    endpoint = f"ipc://{shell.folder}/d.sock"

    def serve() -> subprocess.Popen[str]:
        server = shell.start("discovery", "run", "--no-socket", "--bind", endpoint, "--state", str(state))
        assert server.stdout is not None
        assert server.stdout.readline().strip() == endpoint
        return server

    def ask(*words: str) -> str:
        return shell.run("discovery", *words, "--discovery", endpoint)[1]

    server = serve()
    registrant = shell.start(
        "discovery", "register", "web", "10.0.0.1:80", "--id", "a", "--discovery", endpoint
    )
    until(lambda: "a " in ask("ls", "web"))
    assert shell.run("discovery", "backup", str(copy), "--state", str(state))[0] == 0
    code, _, err = shell.run("discovery", "restore", str(copy), "--state", str(state), "--force")
    assert (code, "in use by process" in err) == (1, True)
    for process in (registrant, server):
        process.terminate()
        process.communicate(timeout=within(20))
    assert shell.run("discovery", "restore", str(copy), "--state", str(state), "--force")[0] == 0
    server = serve()
    # As after a restart: what was registered is listed until its registrant has had time to come back.
    assert "a " in ask("ls", "web")


def until(what: Callable[[], bool]) -> None:
    for _ in range(100):
        if what():
            return
    raise AssertionError("it did not come")
