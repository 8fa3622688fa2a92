"""``memory:`` and ``memory:NAME``: a store of this process, gone with it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.store._backend import Grant, Listing, Outcome, Report
from duplex_services.store._backends._state import State
from duplex_services.store._model import Commit, Entry
from duplex_services.store._url import StoreURL

#: Seconds that a busy loop may be late.
_LATE: Final = 1.0


class MemoryBackend:
    """A :class:`Backend` over a state that any number of them may share."""

    is_late = False
    hides_denied = False
    group_limit = 64

    def __init__(self, address: str, state: State) -> None:
        self.address = address
        self._state = state

    async def get(self, key: str) -> Entry | None:
        await trio.lowlevel.checkpoint()
        return self._state.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        await trio.lowlevel.checkpoint()
        return self._state.listing(prefix)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        await trio.lowlevel.checkpoint()
        outcomes, steps = self._state.plan(commits)
        self._state.apply(steps)
        return outcomes

    async def follow(self, since: Listing, report: Report) -> None:
        await self._state.follow(since, report)

    async def newest(self, revision: int, count: int) -> int:
        await trio.lowlevel.checkpoint()
        return self._state.revision

    async def grant(self, ttl: float) -> Grant:
        await trio.lowlevel.checkpoint()
        lease = secrets.token_hex(8)
        self._state.grant(lease, ttl, trio.current_time())
        return Grant(lease, ttl, ttl + _LATE)

    async def beat(self, lease: str) -> None:
        await trio.lowlevel.checkpoint()
        self._state.beat(lease, trio.current_time())

    async def revoke(self, lease: str) -> None:
        await trio.lowlevel.checkpoint()
        self._end(lease)

    async def end_leases(self) -> None:
        """Delete the keys of leases whose time is over, until cancelled."""
        while True:
            for lease in await self._state.ended():
                self._end(lease)

    def _end(self, lease: str) -> None:
        self._state.apply(self._state.plan_end(lease))
        self._state.forget(lease)


#: The states that have a name, and how many have them open.
_shared: Final[dict[str, tuple[State, int]]] = {}


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[MemoryBackend]:
    """Open one; those of one name share what they hold."""
    url.check_options(())
    if url.hosts or "/" in url.path:
        raise duplex.ConfigurationError(f"{url.address} is neither memory: nor memory:NAME")
    name = url.path
    state, users = _shared.get(name, (None, 0)) if name else (None, 0)
    state = state or State()
    if name:
        _shared[name] = state, users + 1
    backend = MemoryBackend(url.address, state)
    try:
        async with background() as nursery:
            nursery.start_soon(backend.end_leases)
            yield backend
    finally:
        if name:
            state, users = _shared.pop(name)
            if users > 1:
                _shared[name] = state, users - 1
