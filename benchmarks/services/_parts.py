"""Parts of a measurement that are processes of their own: ``python -m benchmarks.services._parts PART …``.

``hold`` has instances registered, and changes them when it is told; ``watch`` follows all services; ``view`` says what a
lookup and the memory of a view are.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import trio

from benchmarks.services._names import OF_ONE, service_of
from duplex_services.discovery._model import Record, ServerInfo
from duplex_services.discovery._rules._keys import encode, instance_key, server_key
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._wire import SERVICE
from duplex_services.discovery.client import (
    Change,
    DiscoveryService,
    Registered,
    Registration,
    keep_registered,
    open_client,
)
from duplex_services.store import Entry, Update

#: Registrations that one process makes at a time.
_AT_ONCE: Final = 32
_LOOKUPS: Final = 200_000


def _say(*words: object) -> None:
    print(*words, flush=True)


async def _next_line() -> list[str]:
    line: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line.split()


# -- hold ------------------------------------------------------------------------------------------------


async def hold(endpoint: str, first: int, step: int, count: int, ttl: float) -> None:
    """Have instances registered, when a line comes; ``change RATE SECONDS`` has some of them report, with the time in their notes."""
    held: list[Registered] = []
    limit = trio.CapacityLimiter(_AT_ONCE)
    async with open_client(endpoint) as peer, trio.open_nursery() as nursery:
        await peer.service(DiscoveryService, name=SERVICE).status()
        _say("ready")
        await _next_line()

        async def keep(number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            said = Registration(
                f"i{number}", host="10.0.0.7", port=1 + number % 60_000, metadata={"version": "1.2"}
            )
            async with limit:
                keeping = keep_registered(peer, service_of(number), said, ttl=ttl)
                registered = await keeping.__aenter__()
                await registered.registered()
            held.append(registered)
            if len(held) == len(range(first, count, step)):
                _say("registered", time.monotonic())
            try:
                await trio.sleep_forever()
            finally:
                await keeping.__aexit__(None, None, None)

        for number in range(first, count, step):
            nursery.start_soon(keep, number)
        while words := await _next_line():
            await _change(held, float(words[1]), float(words[2]))
            _say("changed", time.monotonic())
        nursery.cancel_scope.cancel()


async def _change(held: list[Registered], rate: float, seconds: float) -> None:
    begin = trio.current_time()
    for number in range(round(rate * seconds)):
        await trio.sleep_until(begin + number / rate)
        held[number % len(held)].report("passing", f"{time.monotonic()}")


# -- watch -----------------------------------------------------------------------------------------------


class _Watcher:
    """One who watches; it keeps what is there, and how late changes came.

    Args:
        service: which; empty for all.
        told: called when a batch was taken.
    """

    def __init__(self, service: str, told: Callable[[], None]) -> None:
        self._service = service
        self._told = told
        self.count = 0
        self.delays: list[float] = []

    async def run(self, endpoint: str) -> None:
        """Watch, over a link of its own."""
        async with open_client(endpoint) as peer:
            remote = peer.service(DiscoveryService, name=SERVICE)
            async with remote.watch.open(self._service, None) as batches:
                async for batch in batches:
                    now = time.monotonic()
                    for change in batch.changes:
                        self._take(change, now)
                    self._told()

    def _take(self, change: Change, now: float) -> None:
        if change.kind == "up":
            self.count += 1
        elif change.kind == "down":
            self.count -= 1
        elif change.kind == "update" and change.instance is not None and change.instance.note:
            self.delays.append(now - float(change.instance.note))


async def watch(endpoint: str, watchers: int, service: str) -> None:
    """Watch, when a line comes; tells when all know of how many instances, and at a line how late the changes since the last one were."""
    last = -1

    def told() -> None:
        nonlocal last
        counts = {watcher.count for watcher in all_of_them}
        if len(counts) == 1 and counts != {last}:
            last = counts.pop()
            _say("all", last, time.monotonic())

    all_of_them = [_Watcher(service, told) for _ in range(watchers)]
    _say("ready")
    await _next_line()
    async with trio.open_nursery() as nursery:
        for watcher in all_of_them:
            nursery.start_soon(watcher.run, endpoint)
        while await _next_line():
            delays = sorted(delay for watcher in all_of_them for delay in watcher.delays)
            for watcher in all_of_them:
                watcher.delays.clear()
            _say("delays", *delays[:: max(1, len(delays) // 1000)])
        nursery.cancel_scope.cancel()


# -- view ------------------------------------------------------------------------------------------------


def view(count: int) -> None:
    """Tell MB that instances take in a view, and the time of a lookup of one service in it, in µs."""
    info = ServerInfo("bench", "life")
    keeping = Entry(server_key("bench"), encode(info), count + 1, count + 1)
    entries = (keeping, *(_entry(number) for number in range(count)))
    known = View("bench")
    tracemalloc.start()
    known.apply(Update(entries, (), count + 1, "epoch", full=True), 0.0, 0.0)
    names = [service_of(number) for number in range(0, count, OF_ONE)]
    for name in names:
        known.instances(name)
    gc.collect()
    # What was there before is not counted: neither what was imported, nor the entries of the store.
    memory = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    times = []
    lookup = known.instances
    for _ in range(5):
        rounds = max(1, _LOOKUPS // len(names))
        begin = time.perf_counter()
        for _ in range(rounds):
            for name in names:
                lookup(name)
        times.append((time.perf_counter() - begin) / rounds / len(names))
    _say(memory, statistics.median(times) * 1e6)


def _entry(number: int) -> Entry:
    record = Record("bench", "life", host=f"10.0.{number % 250}.7", port=80, metadata={"version": "1.2"})
    return Entry(instance_key(service_of(number), f"i{number}"), encode(record), number + 1, number + 1)


def main(what: str, *words: Any) -> None:
    """Do what the command line says."""
    if what == "hold":
        endpoint, first, step, count, ttl = words
        trio.run(hold, endpoint, int(first), int(step), int(count), float(ttl))
    elif what == "watch":
        trio.run(watch, words[0], int(words[1]), words[2] if len(words) > 2 else "")
    else:
        view(int(words[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
