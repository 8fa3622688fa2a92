"""``duplex top``: what several peers do, drawn again and again on a terminal, or written as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final, final

import trio

import duplex
from duplex.builtin import Snapshot
from duplex.cli._session import linked, looking_up
from duplex.cli._stats import HEADINGS, NO_CALLS, TEXTS, Row, heading, read, rows, stats_of
from duplex.cli.live import Part, show_live
from duplex.resolvers import Known, is_looked_up

#: Seconds between two questions which instances a service has.
_LEAST_PAUSE: Final = 1.0


@final
class Watched:
    """One peer that is watched, as it was when it last said something.

    Args:
        endpoint: where it is bound.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._present: Snapshot | None = None
        self._before: Snapshot | None = None
        #: Why nothing is known of it at present; ``None`` if something is.
        self.problem: str | None = "not linked yet"

    async def run(self, interval: float, connect_timeout: float) -> None:
        """Follow the peer until cancelled: connect again, and again, when it is gone."""
        while True:
            try:
                async with (
                    linked(self._endpoint, connect_timeout) as link,
                    stats_of(link).watch.open(interval) as snapshots,
                ):
                    async for answer in snapshots:
                        self.note(read(answer))
            except duplex.DuplexError as error:
                self.problem = str(error).partition("\n")[0]
            await trio.sleep(interval)

    def note(self, snapshot: Snapshot) -> None:
        """The peer has said something."""
        self.problem = None
        self._before, self._present = self._present, snapshot

    @property
    def title(self) -> str:
        """A line about the peer."""
        if self.problem is not None:
            return f"{self._endpoint}: {self.problem}"
        assert self._present is not None
        return f"{self._endpoint}: {heading(self._present)}"

    def rows(self, *, everything: bool) -> list[Row]:
        """Return what it did lately, the busiest method first."""
        if self.problem is not None or self._present is None or self._before is None:
            return []
        found = rows(self._present, self._before, everything=everything)
        found = [row for row in found if row.calls or row.in_flight]
        return sorted(found, key=lambda row: (-row.calls, -row.in_flight, row.method, row.direction))

    def part(self, *, everything: bool) -> Part:
        """Return what is shown of it."""
        found = [row.cells(per_second=True) for row in self.rows(everything=everything)]
        is_bad = self.problem is not None
        return Part(self.title, is_bad, HEADINGS, found, TEXTS, "" if is_bad else NO_CALLS)


async def show_top(
    endpoints: Sequence[str], *, interval: float, count: int | None, connect_timeout: float, everything: bool
) -> None:
    """Show what peers do.

    Args:
        endpoints: where they are bound; ``discovery://NAME`` stands for all instances of a service.
        interval: seconds between two looks.
        count: how many looks; ``None`` for no end.
        connect_timeout: seconds to wait for a link.
        everything: also ``duplex.*``.
    """
    peers: list[Watched] = []

    async def watch(peer: Watched, scope: trio.CancelScope) -> None:
        with scope:
            await peer.run(interval, connect_timeout)
        peers.remove(peer)

    async with contextlib.AsyncExitStack() as stack:
        services: list[tuple[duplex.Peer, str, Known]] = []
        for endpoint in filter(is_looked_up, endpoints):
            asked = await stack.enter_async_context(looking_up(connect_timeout))
            services.append((asked, endpoint, await asked.look_up(endpoint)))
        nursery = await stack.enter_async_context(trio.open_nursery())

        def begin(endpoint: str) -> trio.CancelScope:
            peers.append(Watched(endpoint))
            nursery.start_soon(watch, peers[-1], scope := trio.CancelScope())
            return scope

        for endpoint in endpoints:
            if not is_looked_up(endpoint):
                begin(endpoint)
        for service in services:
            nursery.start_soon(_watch_instances, *service, begin, interval)
        await show_live(
            lambda: [peer.part(everything=everything) for peer in peers], interval=interval, count=count
        )
        nursery.cancel_scope.cancel()


async def _watch_instances(
    asked: duplex.Peer,
    endpoint: str,
    known: Known,
    begin: Callable[[str], trio.CancelScope],
    interval: float,
) -> None:
    """Watch the instances of a service, whichever they are; those that are known stay when that cannot be said."""
    watched: dict[str, trio.CancelScope] = {}
    while True:
        addresses = {one.address for one in known}
        for address in watched.keys() - addresses:
            watched.pop(address).cancel()
        for address in sorted(addresses - watched.keys()):
            watched[address] = begin(address)
        await trio.sleep(max(interval, _LEAST_PAUSE))
        with contextlib.suppress(duplex.ConnectError):
            known = await asked.look_up(endpoint)
