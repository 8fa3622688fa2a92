"""What says where a service is, from a directory: followed live, kept on disk, and told with its age."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator
from typing import Final, Self, final

import msgspec
import trio

import duplex
from duplex.resolvers import Known
from duplex_services.discovery._cache import Cache, Kept
from duplex_services.discovery._following import Following, follow
from duplex_services.discovery._line import Line
from duplex_services.discovery._protocol import DiscoveryService
from duplex_services.discovery._rules._endpoints import endpoints_of, why_none
from duplex_services.discovery._rules._naming import Target, listed_name
from duplex_services.discovery._wire import SERVICE

_log: Final = logging.getLogger("duplex")

#: Seconds that a server has to answer before what was kept is told.
_ANSWER_WITHIN: Final = 1.0

#: Seconds that the names of all services may take, for a message.
_NAMES_WITHIN: Final = 1.0

#: Seconds after which it is noted on disk that what is known is still so, and between two changes that are.
_KEEP_EVERY: Final = 60.0
_KEEP_AFTER: Final = 1.0


@final
class Lookup:
    """A :class:`duplex.Resolver` that asks discovery.

    Args:
        target: what to look for.
        line: what is linked to the servers.
        cache: what was known before.
    """

    def __init__(self, target: Target, line: Line, cache: Cache) -> None:
        self._target = target
        self._line = line
        self._cache = cache

    def __repr__(self) -> str:
        return f"<discovery at {self._line.place}>"

    def resolve(self, service: str) -> AsyncIterator[Known]:
        """See :meth:`duplex.Resolver.resolve`.

        Raises:
            ConfigurationError: a service of that name cannot be listed.
        """
        target = msgspec.structs.replace(self._target, service=self._target.service or service)
        try:
            listed = listed_name(target.service)
        except ValueError as error:
            raise duplex.ConfigurationError(str(error)) from None
        return Answers(listed, target, self._line, self._cache)


@final
class Answers:
    """What :meth:`Lookup.resolve` returns: one set after the other, until it is closed."""

    def __init__(self, listed: str, target: Target, line: Line, cache: Cache) -> None:
        self._listed = listed
        self._target = target
        self._line = line
        self._cache = cache
        self._key = f"{line.place} {listed} {target.service} {target.zone} {sorted(target.metadata.items())}"
        self._began = trio.current_time()
        self._following: Following | None = None
        self._kept: Kept | None = None
        self._has_read = False
        self._kept_at = -math.inf
        self._kept_endpoints: tuple[duplex.Endpoint, ...] | None = None
        self._as_of: float | None = None
        self._names: tuple[str, ...] = ()
        self._told: Known | None = None
        self._changed = trio.Event()
        self._closed = trio.Event()
        line.add(self._ask)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Known:
        await trio.lowlevel.checkpoint()
        while True:
            await self._read()
            known = self._known()
            if known is not None and known != self._told:
                self._told = known
                return known
            changed = self._changed
            due = self._began + _ANSWER_WITHIN
            with trio.move_on_at(due if trio.current_time() < due else math.inf):
                await changed.wait()

    async def aclose(self) -> None:
        """Ask no more."""
        self._line.drop(self._ask)
        self._closed.set()
        await trio.lowlevel.checkpoint()

    # -- asking ----------------------------------------------------------------------------------------

    async def _ask(self, peer: duplex.Peer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, peer)
            await self._closed.wait()
            nursery.cancel_scope.cancel()

    async def _follow(self, peer: duplex.Peer) -> None:
        remote = peer.service(DiscoveryService, name=SERVICE)
        async with follow(peer, self._listed) as following:
            self._following = following
            try:
                while True:
                    is_old = self._kept_endpoints != self._endpoints(following)
                    with trio.move_on_after(_KEEP_AFTER if is_old else _KEEP_EVERY):
                        await following.receive()
                    if self._is_fresh(following):
                        endpoints = self._endpoints(following)
                        if not endpoints:
                            await self._learn_names(remote)
                        self._as_of = None
                        await self._keep(endpoints)
                    elif self._as_of is None:
                        self._as_of = time.time() - (_age(following) or 0.0)
                    self._tell()
            finally:
                if self._as_of is None:
                    endpoints = self._endpoints(following)
                    if self._is_fresh(following) and endpoints != self._kept_endpoints:
                        # Who closes a moment after a change has to find it on disk the next time.
                        with trio.CancelScope(shield=True):
                            await self._write(endpoints)
                    self._as_of = time.time()

    async def _learn_names(self, remote: DiscoveryService) -> None:
        with trio.move_on_after(_NAMES_WITHIN):
            try:
                overview = await remote.services()
            except duplex.RPCError as error:
                _log.debug("the names of all services: %s", error)
            else:
                self._names = tuple(info.name for info in overview.services if info.instances)

    async def _keep(self, endpoints: tuple[duplex.Endpoint, ...]) -> None:
        """Keep what is known on disk, unless that was done a moment ago."""
        every = _KEEP_EVERY if endpoints == self._kept_endpoints else _KEEP_AFTER
        if trio.current_time() >= self._kept_at + every:
            await self._write(endpoints)

    async def _write(self, endpoints: tuple[duplex.Endpoint, ...]) -> None:
        if endpoints:
            kept = Kept(self._key, time.time(), [(one.address, one.weight, one.zone) for one in endpoints])
            await trio.to_thread.run_sync(self._cache.write, kept)
        else:
            await trio.to_thread.run_sync(self._cache.forget, self._key)
        self._kept_at, self._kept_endpoints = trio.current_time(), endpoints

    async def _read(self) -> None:
        """Read what was kept, once no server has answered for a while."""
        late = trio.current_time() >= self._began + _ANSWER_WITHIN
        if late and not self._has_read and not (self._following and self._following.is_known):
            self._has_read = True
            self._kept = await trio.to_thread.run_sync(self._cache.read, self._key, time.time())

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- telling ---------------------------------------------------------------------------------------

    def _known(self) -> Known | None:
        """Return what is known; ``None`` if it is too early to say."""
        following = self._following
        if following is not None and following.is_known:
            endpoints = self._endpoints(following)
            if self._as_of is None:
                none = None if endpoints else self._why_none(following)
                return Known(endpoints, problem=none)
            status = following.status
            why = self._nobody() if status is None else f"discovery cannot read its store: {status.trouble}"
            return Known(endpoints, problem=f"{_since(self._as_of)}; {why}", as_of=self._as_of)
        if trio.current_time() < self._began + _ANSWER_WITHIN:
            return None
        if self._kept is not None:
            endpoints = tuple(
                duplex.Endpoint(address, weight=weight, zone=zone)
                for address, weight, zone in self._kept.endpoints
            )
            problem = f"{_since(self._kept.as_of)}, from this machine's disk; {self._nobody()}"
            return Known(endpoints, problem=problem, as_of=self._kept.as_of)
        return Known((), problem=self._nobody())

    def _nobody(self) -> str:
        """Say why nobody tells."""
        refusal = None if self._following is None else self._following.refusal
        return self._line.advice if refusal is None else f"{self._line.place} refuses: {refusal.message}"

    def _endpoints(self, following: Following) -> tuple[duplex.Endpoint, ...]:
        return endpoints_of(following.instances, self._target)

    def _why_none(self, following: Following) -> str:
        why = why_none(self._listed, following.instances, self._target, self._names)
        return f"{why} (asked at {self._line.place})"

    @staticmethod
    def _is_fresh(following: Following) -> bool:
        return following.is_known and following.status is not None and not following.status.stale


def _age(following: Following) -> float | None:
    return None if following.status is None else following.status.age


def _since(as_of: float) -> str:
    return f"what is known is of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(as_of))}"
