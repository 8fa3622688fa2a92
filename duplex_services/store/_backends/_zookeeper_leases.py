"""Leases in ZooKeeper: ephemeral nodes, and keys that name them, which any store that is open deletes after them."""

from __future__ import annotations

import contextlib
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, final

import trio
from kazoo import exceptions

from duplex_services.store._backend import Grant, Outcome
from duplex_services.store._backends import _zookeeper_words as words
from duplex_services.store._backends._zookeeper_reader import Reader
from duplex_services.store._backends._zookeeper_session import Lost, Session
from duplex_services.store._model import (
    Commit,
    Denied,
    LeaseLost,
    StoreError,
    Unavailable,
    Unchanged,
    Unknown,
)

#: Seconds until servers have elected a leader, and somebody has deleted the keys of a lease.
_ELECTION: Final = 5.0
#: The part of a session that is sure, counted from when a beat was sent: who answers it tells the leader of it within
#: half a tick, and a session has two ticks at least.
_SURE: Final = 0.75
#: Keys that are deleted at once.
_AT_ONCE: Final = 32
#: Seconds between two looks whether a lease has ended, should no event say so; and before a third if that fails.
_LOOK: Final = 2.0
_PAUSE: Final = 1.0
#: Seconds within which one of all stores deletes the keys of a lease that has ended.
_LOT: Final = 0.2


@final
class Leases:
    """The leases of one session, and the keys of those of all.

    Args:
        address: for messages.
        session: whose nodes they are.
        paths: where they are.
        reader: knows which keys are under which.
        commit: makes commits.
    """

    def __init__(
        self,
        address: str,
        session: Session,
        paths: words.Paths,
        reader: Reader,
        commit: Callable[[Sequence[Commit]], Awaitable[Sequence[Outcome]]],
    ) -> None:
        self._address = address
        self._session = session
        self._paths = paths
        self._reader = reader
        self._commit = commit
        #: Until when each lease of ours lasts, as far as is known.
        self._ours: dict[str, float] = {}
        self._granted = trio.Event()
        self._moved = trio.Event()

    async def grant(self) -> Grant:
        """As :meth:`Backend.grant`; the session has its own time, whatever is wished for."""
        lease = secrets.token_hex(8)
        sent = trio.current_time()
        try:
            await self._reader.catch_up()
            await self._session.ask("create", self._paths.of_lease(lease), b"", ephemeral=True)
        except (Lost, exceptions.ZookeeperError) as error:
            # If it was made after all, nothing will ever be under it.
            raise Unavailable(f"{self._address}: no lease was made: {error!r}") from error
        seconds = self._session.seconds
        grant = Grant(lease, _SURE * seconds, 2 * seconds + _ELECTION)
        self._ours[lease] = sent + grant.ttl
        self._granted.set()
        return grant

    async def beat(self, lease: str) -> None:
        """As :meth:`Backend.beat`."""
        path = self._paths.of_lease(lease)
        sent = trio.current_time()
        try:
            # Who answers is asked first to speak with the leader: it alone ends sessions.
            _, found = await self._session.ask_all([("sync", (path,), {}), ("exists", (path,), {})])
        except Lost as error:
            raise Unavailable(str(error)) from error
        if isinstance(found, Exception):
            raise Unavailable(f"{self._address}: {found!r}")
        if found is None:
            raise LeaseLost(lease)
        if lease in self._ours:
            self._ours[lease] = max(self._ours[lease], sent + _SURE * self._session.seconds)

    async def revoke(self, lease: str) -> None:
        """As :meth:`Backend.revoke`."""
        await self._end(lease)
        await self._reader.catch_up()
        await self._delete(self._reader.mirror.leases.get(lease, ()), lease)

    async def _end(self, lease: str) -> None:
        try:
            with contextlib.suppress(exceptions.NoNodeError):
                await self._session.ask("delete", self._paths.of_lease(lease))
        except (Lost, exceptions.ZookeeperError) as error:
            raise Unavailable(f"{self._address}: {error!r}") from error
        self._ours.pop(lease, None)

    async def end_leases(self) -> None:
        """End leases of ours that nobody has beaten for, until cancelled: the session alone would keep them."""
        while True:
            self._granted = trio.Event()
            with trio.move_on_at(min(self._ours.values(), default=math.inf)):
                await self._granted.wait()
            now = trio.current_time()
            for lease in [lease for lease, end in self._ours.items() if end <= now]:
                try:
                    await self._end(lease)
                except StoreError:
                    self._ours[lease] = now + _PAUSE

    async def delete_orphans(self) -> None:
        """Delete keys whose lease has ended, until cancelled; whichever store is the first does it for all."""
        while True:
            self._moved = trio.Event()
            moved = self._moved
            try:
                mirror = await self._reader.catch_up()
                # A lease that is made later has no keys yet.
                in_use = {*mirror.leases}
                there = await self._session.ask("get_children", self._paths.leases, self._on_moved)
                for lease in in_use.difference(there):
                    await trio.sleep(random.uniform(0, _LOT))
                    await self._delete(self._reader.mirror.leases.get(lease, ()), lease)
            except (StoreError, Lost, exceptions.ZookeeperError):
                # The user of this store learns of it from other requests.
                await trio.sleep(_PAUSE)
                continue
            with trio.move_on_after(_LOOK):
                await moved.wait()

    async def _delete(self, keys: Iterable[str], lease: str) -> None:
        while doomed := [key for key in sorted(keys) if self._is_under(key, lease)]:
            entries = [self._reader.mirror.entries[key] for key in doomed[:_AT_ONCE]]
            commits = [
                Commit(deletes=(entry.key,), when=(Unchanged(entry.key, entry.modified),))
                for entry in entries
            ]
            for outcome in await self._commit(commits):
                if isinstance(outcome, Denied | Unavailable | Unknown):
                    raise type(outcome)(outcome.message)

    def _on_moved(self, event: object) -> None:
        self._session.soon(lambda: self._moved.set())

    def _is_under(self, key: str, lease: str) -> bool:
        entry = self._reader.mirror.entries.get(key)
        return entry is not None and entry.lease == lease
