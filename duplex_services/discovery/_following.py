"""Following a service: what is there, and what changes, over lost links and servers that restart, without a gap."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final, Self, final

import msgspec
import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.discovery._model import Batch, Change, Instance, Leader, Status
from duplex_services.discovery._protocol import DiscoveryService
from duplex_services.discovery._rules._history import net
from duplex_services.discovery._rules._mirror import Mirror
from duplex_services.discovery._rules._retrying import next_pause, refusal_of
from duplex_services.discovery._wire import SERVICE

_log: Final = logging.getLogger("duplex")

#: Changes that wait for their reader before they are merged.
_MOST_PENDING: Final = 1000


class News(msgspec.Struct, frozen=True):
    """What a follower is told.

    Attributes:
        changes: to what was known before; a lost link makes none.
        current: nothing more was known then.
        status: how good it is; ``None`` if no server is there: what is known stays, and gets old.
    """

    changes: tuple[Change, ...]
    current: bool
    status: Status | None


@final
class Following:
    """What :func:`follow` gives: iterate over it for :class:`News`, or look at what is known.

    Attributes:
        service: which is followed; empty for all.
        connections: how often a server began to tell.
        refusal: why a server has refused to tell; ``None`` if one tells, or none was there. It is asked again.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.connections = 0
        self.refusal: duplex.RPCError | None = None
        self._mirror = Mirror()
        self._pending: list[Change] = []
        self._status: Status | None = None
        self._is_current = False
        self._is_known = False
        self._has_news = trio.Event()
        self._error: duplex.RPCError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        return await self.receive()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances that are known, in whatever state, the oldest first."""
        return tuple(sorted(self._mirror.instances.values(), key=lambda one: (one.index, one.id)))

    @property
    def leader(self) -> Leader | None:
        """Who leads the service, as far as is known."""
        return self._mirror.leaders.get(self.service)

    @property
    def status(self) -> Status | None:
        """How good what is known is; ``None`` while no server is there."""
        return self._status

    @property
    def is_known(self) -> bool:
        """Whether all was told once."""
        return self._is_known

    async def receive(self) -> News:
        """Wait for news: what has changed since the last ones. Several changes may have come as one. If this is cancelled, nothing
        is lost.

        Raises:
            InvalidArgument: this is no service.
        """
        await trio.lowlevel.checkpoint()
        while not self._has_news.is_set():
            await self._has_news.wait()
        self._has_news = trio.Event()
        if self._error is not None:
            raise self._error
        changes, self._pending = self._pending, []
        return News(tuple(changes), self._is_current, self._status)

    async def _run(self, remote: DiscoveryService) -> None:
        pause = 0.0
        while True:
            connections = self.connections
            try:
                await self._read(remote)
            except duplex.InvalidArgument as error:
                self._error = error
                self._has_news.set()
                return
            except duplex.RPCError as error:
                before, self.refusal = self.refusal, refusal_of(error)
                if str(before) != str(self.refusal):
                    self._has_news.set()
                _log.info("following %s: %s", self.service or "all services", error.message)
            self._mirror.lost()
            self._is_current = False
            if self._status is not None:
                self._status = None
                self._has_news.set()
            pause = next_pause(0.0 if self.connections > connections else pause)
            await trio.sleep(pause)

    async def _read(self, remote: DiscoveryService) -> None:
        async with remote.watch.open(self.service, self._mirror.position) as call:
            is_first = True
            async for batch in call:
                self.connections += is_first
                is_first = False
                self._take(batch)

    def _take(self, batch: Batch) -> None:
        self.refusal = None
        self._pending += self._mirror.take(batch)
        if len(self._pending) > _MOST_PENDING:
            # Nobody takes them: of each thing the last change is enough.
            self._pending = list(net(self._pending))
        self._status = batch.status
        self._is_current = batch.current
        self._is_known |= batch.current
        if batch.current or self._pending:
            self._has_news.set()


@contextlib.asynccontextmanager
async def follow(peer: duplex.Peer, service: str = "", *, name: str = SERVICE) -> AsyncIterator[Following]:
    """Follow a service, even one that has no instances: ``async with follow(peer, "calc") as calc``.

    It begins at once and asks in the background, any server of discovery to which the peer has a link. When that is lost it goes
    on with another one; what is known stays, and what has changed meanwhile is told as changes.

    Args:
        peer: which has links to servers of discovery, or will.
        service: which; empty for all.
        name: of the service that is asked.
    """
    following = Following(service)
    async with background() as nursery:
        nursery.start_soon(following._run, peer.service(DiscoveryService, name=name))
        yield following
