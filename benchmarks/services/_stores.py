"""Each kind of store with the same work: reads and commits one by one and 32 at a time, a listing, and how late a watch knows.

Real servers are those of the tests, one node each; what cannot be had here is left out.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import trio

from benchmarks.services._processes import Process
from duplex_services.store import Store, last_writer_wins, missing, open_store, unchanged

KINDS: Final = ("memory", "sqlite", "duplex", "etcd", "consul", "zookeeper")
_KEYS: Final = 1000
_VALUE: Final = bytes(200)
_AT_ONCE: Final = 32
#: Keys that are put in one commit while the store is filled.
_TOGETHER: Final = 50


def stores(seconds: float, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Measure every kind of store that there is here; figures by name, by kind."""
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        say(kind)
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(_running(kind))
            if url:
                found[kind] = trio.run(_measure, url, seconds)
            else:
                say(f"{kind} is not here")
    return found


@contextlib.contextmanager
def _running(kind: str) -> Iterator[str]:
    """Run what a kind of store needs; gives its URL, empty if it cannot be had."""
    if kind == "memory":
        yield "memory:"
        return
    with tempfile.TemporaryDirectory(prefix="duplex-bench-") as folder:
        file = f"sqlite:{folder}/store.db"
        if kind == "sqlite":
            yield file
        elif kind == "duplex":
            words = ("--store", file, "--no-socket", "--bind", f"ipc://{folder}/store.sock")
            with Process(sys.executable, "-m", "duplex", "store", "run", *words) as process:
                yield process.line()
        else:
            with contextlib.ExitStack() as stack:
                servers = _servers(kind)
                if servers is not None:
                    stack.enter_context(servers)
                yield "" if servers is None else f"{kind}://{servers.hosts}/bench-{secrets.token_hex(4)}"


def _servers(kind: str) -> Any:
    """Return the servers of a kind, which are to be entered; ``None`` if their program is not here."""
    from _pytest.outcomes import Failed, Skipped

    from tests.services import servers

    kinds = {
        "etcd": servers.EtcdServers,
        "consul": servers.ConsulServers,
        "zookeeper": servers.ZooKeeperServers,
    }
    try:
        return kinds[kind]()
    except (Failed, Skipped):
        return None


async def _measure(url: str, seconds: float) -> dict[str, float]:
    async with open_store(url) as store:
        for begin in range(0, _KEYS, _TOGETHER):
            puts = {f"k/{number}": _VALUE for number in range(begin, begin + _TOGETHER)}
            await store.commit(puts, when=last_writer_wins)
        figures: dict[str, float] = {}
        for name, make in (("get", _get), ("commit", _commit)):
            one, _ = await _paced(make(store), 1, seconds)
            _, many = await _paced(make(store), _AT_ONCE, seconds)
            figures[f"{name}, ms, p50"] = 1000 * one
            figures[f"{name}s a second, {_AT_ONCE} at a time"] = many
        listing, _ = await _paced(lambda _: _list(store), 1, seconds)
        figures[f"to list {_KEYS} keys, ms, p50"] = 1000 * listing
        figures["a commit at a watch, ms, p50"] = 1000 * await _delay(store, seconds)
        before = time.process_time(), store.statistics().commits
        await _paced(_commit(store), _AT_ONCE, seconds)
        commits = store.statistics().commits - before[1]
        figures["processor of the client for a commit, ms"] = (
            1000 * (time.process_time() - before[0]) / max(commits, 1)
        )
        return figures


def _get(store: Store) -> Callable[[int], Awaitable[object]]:
    return lambda number: store.get(f"k/{number % _KEYS}")


def _commit(store: Store) -> Callable[[int], Awaitable[object]]:
    """Return what commits to a key of the caller's own, on condition that it is as it was left."""
    name = secrets.token_hex(4)
    last: dict[int, int] = {}

    async def commit(caller: int) -> None:
        key = f"c/{name}/{caller}"
        when = unchanged(key, last[caller]) if caller in last else missing(key)
        last[caller] = await store.commit({key: _VALUE}, when=[when])

    return commit


async def _list(store: Store) -> None:
    assert len((await store.list("k/")).entries) == _KEYS


async def _paced(
    ask: Callable[[int], Awaitable[object]], callers: int, seconds: float
) -> tuple[float, float]:
    """Ask without a rest; return the middle time of an answer in seconds, and answers a second."""
    took: list[float] = []

    async def call(caller: int) -> None:
        while trio.current_time() < until:
            began = trio.current_time()
            await ask(caller)
            took.append(trio.current_time() - began)

    began = trio.current_time()
    until = began + seconds
    async with trio.open_nursery() as nursery:
        for caller in range(callers):
            nursery.start_soon(call, caller)
    return statistics.median(took), len(took) / (trio.current_time() - began)


async def _delay(store: Store, seconds: float) -> float:
    """Return how long after it was begun a commit is at a watch, in the middle."""
    took: list[float] = []
    until = trio.current_time() + seconds
    async with store.watch("w/") as updates:
        await updates.receive()
        number = 0
        while trio.current_time() < until:
            number += 1
            began = trio.current_time()
            await store.commit({"w/k": b"%d" % number}, when=last_writer_wins)
            while not any(entry.value == b"%d" % number for entry in (await updates.receive()).puts):
                pass
            took.append(trio.current_time() - began)
    return statistics.median(took)
