"""Discovery as instances become more: many registered, many who watch, changes all the time, and half of all killed."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import trio

from benchmarks.services._processes import Discovery, Process, discovery, holding, together
from duplex_services.discovery._wire import SERVICE
from duplex_services.discovery.client import DiscoveryService, Status, open_client


@dataclasses.dataclass(frozen=True)
class Load:
    """What is to be measured.

    Attributes:
        instances: how many are registered.
        holders: processes that hold them.
        watchers: who follow all services, each over a link of its own.
        rate: changes in a second.
        seconds: of each phase.
        ttl: of each instance, in seconds.
    """

    instances: int
    holders: int = 20
    watchers: int = 100
    rate: float = 200.0
    seconds: float = 10.0
    ttl: float = 5.0


def scale(load: Load, say: Callable[[str], None]) -> dict[str, float]:
    """Measure discovery under a load, and return the figures by name."""
    figures: dict[str, float] = {}
    with discovery() as server:
        cpu = server.process.cpu
        empty = server.process.memory()
        before = cpu()
        with holding(server, load.instances, load.holders, load.ttl) as (holders, took):
            figures["register all, s"] = took
            figures["register all, ms of CPU each"] = (cpu() - before) / load.instances * 1e3
            figures["memory of the server, MB"] = server.process.memory()
            figures["memory of an instance, KB"] = (server.process.memory() - empty) / load.instances * 1e3
            say("registered")

            before, revision = cpu(), _status(server).revision
            time.sleep(load.seconds)
            figures["CPU at rest, %"] = (cpu() - before) / load.seconds * 100
            figures["store writes at rest"] = _status(server).revision - revision

            before = cpu()
            with _watchers(server, load) as watching:
                begin = together(watching)
                done = max(_known(one, load.instances) for one in watching)
                figures["all watchers know all, s"] = done - begin
                figures["the same, ms of CPU for a watcher"] = (cpu() - before) / load.watchers * 1e3
                figures["memory of the server then, MB"] = server.process.memory()
                say("watched")

                # A second to come to rest.
                time.sleep(1.0)
                before, begin = cpu(), time.monotonic()
                for holder in holders:
                    holder.tell("change", load.rate / load.holders, load.seconds)
                for holder in holders:
                    holder.line()
                figures["CPU while it changes, %"] = (cpu() - before) / (time.monotonic() - begin) * 100
                time.sleep(1.0)
                delays = sorted(delay for one in watching for delay in _delays(one))
                figures["a change at a watcher, ms, p50"] = statistics.median(delays) * 1e3
                figures["a change at a watcher, ms, p99"] = delays[len(delays) * 99 // 100] * 1e3
                say("changed")

                victims = holders[: max(1, load.holders // 2)]
                left = load.instances - sum(_held(load, holders.index(one)) for one in victims)
                before, begin = cpu(), time.monotonic()
                for victim in victims:
                    victim.kill()
                done = max(_known(one, left) for one in watching)
                figures["half killed: all know, s"] = done - begin
                figures["half killed: s beyond the TTL"] = done - begin - load.ttl
                figures["half killed: s of CPU"] = cpu() - before
                say("killed")
    return figures


def _held(load: Load, holder: int) -> int:
    return len(range(holder, load.instances, load.holders))


@contextlib.contextmanager
def _watchers(server: Discovery, load: Load) -> Iterator[list[Process]]:
    processes = min(4, load.watchers)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Process.part("watch", server.endpoint, len(range(number, load.watchers, processes)))
            )
            for number in range(processes)
        ]


def _known(watching: Process, count: int) -> float:
    """Wait until all watchers of a process know of so many instances, and return when they did."""
    while True:
        words = watching.line().split()
        if words[0] == "all" and int(words[1]) == count:
            return float(words[2])


def _delays(watching: Process) -> list[float]:
    watching.tell("delays")
    while True:
        words = watching.line().split()
        if words[0] == "delays":
            return [float(word) for word in words[1:]]


def _status(server: Discovery) -> Status:
    async def ask() -> Status:
        async with open_client(server.endpoint) as peer:
            return await peer.service(DiscoveryService, name=SERVICE).status()

    return trio.run(ask)
