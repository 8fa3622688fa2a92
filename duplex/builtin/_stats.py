"""``duplex.stats``: what a peer has counted of its calls, by method and direction, and how its links are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import trio

from duplex.engine._counting import Counting, MethodStatistics
from duplex.engine._statistics import LinkStatistics
from duplex.service import Service


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer has counted."""

    #: The peer's id, which is another one after a restart, and its name.
    peer_id: str
    peer_name: str
    #: Seconds since the peer was opened.
    uptime: float
    #: Calls of methods that it does not have.
    unknown_methods: int
    #: By method, and for each by direction.
    methods: list[MethodStatistics]
    links: list[LinkStatistics]


class Reporting(Protocol):
    """A link of the peer."""

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""


class Counted(Protocol):
    """What the service needs of a peer."""

    @property
    def id(self) -> str:
        """The peer's id."""

    @property
    def name(self) -> str:
        """What it calls itself."""

    @property
    def counting(self) -> Counting | None:
        """What is counted."""

    @property
    def links(self) -> Sequence[Any]:
        """The links that are open now."""

    def method_statistics(self) -> list[MethodStatistics]:
        """Return what was counted, by method."""


def stats_service(peer: Counted) -> Service:
    """Make the service ``duplex.stats`` of a peer."""
    service = Service(
        "duplex.stats",
        version="1.0.0",
        description="What this peer has counted of its calls, in both directions.",
        builtin=True,
    )
    opened = trio.current_time()

    def take() -> Snapshot:
        links: Sequence[Reporting] = peer.links
        return Snapshot(
            peer_id=peer.id,
            peer_name=peer.name,
            uptime=trio.current_time() - opened,
            unknown_methods=0 if peer.counting is None else peer.counting.unknown,
            methods=peer.method_statistics(),
            links=[link.statistics() for link in links],
        )

    # Answers may be long, so they are not made inline: others have their turns between one and the next.
    @service.rpc(idempotent=True)
    async def snapshot() -> Snapshot:
        """Return what was counted since the peer was opened."""
        return take()

    @service.rpc(idempotent=True)
    async def watch(
        interval: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0,
    ) -> AsyncIterator[Snapshot]:
        """Stream what was counted: at once, and again and again after so many seconds."""
        while True:
            yield take()
            # Nothing tells that something was counted, and what does would cost every call.
            await trio.sleep(interval)

    return service
