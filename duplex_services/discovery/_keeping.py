"""One loop that keeps the store as it should be: what is silent goes, what was lost is put back, somebody leads.

It looks at the view and at what this server keeps, decides, and writes. What fails is looked at again, so nothing hangs on
an event that was missed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from duplex_services.discovery._errors import StoreAway
from duplex_services.discovery._model import Change, Record
from duplex_services.discovery._rules._keys import instance_key
from duplex_services.discovery._rules._leaders import due_leader, plan_leader
from duplex_services.discovery._rules._liveness import (
    RANK_PAUSE,
    Liveness,
    What,
    rank_of,
    sweep_at,
)
from duplex_services.discovery._rules._plans import Owner, Plan, plan_delete, plan_put
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._writing import Writer

_log: Final = logging.getLogger("duplex")

#: Seconds between two looks.
LOOK_EVERY: Final = 0.25

#: Seconds that something rests which has failed.
_REST: Final = 1.0

#: What is done at once; the store makes few commits of it.
_AT_ONCE: Final = 64


class Keeper:
    """Keeps what this server is to keep.

    Args:
        view: what is known.
        writer: how to write.
        owner: which server this is.
        end: called when an instance is kept here no more, with the reason.
    """

    def __init__(self, view: View, writer: Writer, owner: Owner, end: Callable[[What, str], None]) -> None:
        self.liveness = Liveness(trio.current_time())
        #: What is in the store for those that are kept, as far as is known.
        self.records: dict[What, Record] = {}
        self._view = view
        self._writer = writer
        self._owner = owner
        self._end = end
        #: What is being deleted: that it is not in the store any more is no loss.
        self._leaving: set[What] = set()
        self._busy: set[tuple[str, ...]] = set()
        self._rests: dict[tuple[str, ...], float] = {}
        self._limit = trio.CapacityLimiter(_AT_ONCE)
        #: Services whose leader may be another now, and since when.
        self._unsettled: dict[str, float] = {}
        self._leading: dict[str, trio.Lock] = {}
        #: The epoch and the revision of what this server wrote last for what it keeps: what is older says nothing of it.
        self._written: dict[What, tuple[str, int]] = {}

    # ------------------------------------------------------------------------------------------ the loop

    async def run(self, is_fresh: Callable[[], bool], tick: Callable[[], None]) -> None:
        """Look again and again.

        Args:
            is_fresh: tells whether the view is up to date: what is stale is no reason to delete anything.
            tick: called at each look.
        """
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(LOOK_EVERY)
                tick()
                now = trio.current_time()
                self._rests = {key: until for key, until in self._rests.items() if until > now}
                for key, action in self._due(now, is_fresh=is_fresh()):
                    if key not in self._busy and key not in self._rests:
                        self._busy.add(key)
                        nursery.start_soon(self._act, key, action)

    async def _act(self, key: tuple[str, ...], action: Callable[[], Awaitable[object]]) -> None:
        try:
            async with self._limit:
                await action()
        except StoreAway as error:
            _log.info("%s: %s", "/".join(key), error)
            self._rests[key] = trio.current_time() + _REST
        finally:
            self._busy.discard(key)

    def _due(
        self, now: float, *, is_fresh: bool
    ) -> Iterator[tuple[tuple[str, ...], Callable[[], Awaitable[object]]]]:
        for what in self.liveness.silent(now):
            yield ("silent", *what), lambda what=what: self._drop_silent(what)  # type: ignore[misc]
        if not is_fresh:
            return
        for what in list(self.records):
            if what in self.liveness and self._is_lost(what):
                yield ("lost", *what), lambda what=what: self._put_back(what)  # type: ignore[misc]
        rank = rank_of(self._owner.server, list(self._view.servers))
        for (service, id), since in list(self._view.orphans.items()):
            if (service, id) in self._view.suspects:
                continue
            held = self._view.held(service, id)
            if held is not None and sweep_at(since, held.record.ttl, rank) <= now:
                what = What(service, id)
                yield ("orphan", *what), lambda what=what: self._sweep(what)  # type: ignore[misc]
        for (service, id), held in list(self._view.withdrawn.items()):
            # Its server deletes it; if that is gone, any server that sees it does.
            server = self._view.servers.get(held.record.server)
            if server is None or server.name == self._owner.server:
                what = What(service, id)
                yield ("withdrawn", *what), lambda what=what: self.delete(what, "deregistered")  # type: ignore[misc]
        for service, since in list(self._unsettled.items()):
            if since + RANK_PAUSE * rank <= now:
                yield ("leader", service), lambda service=service: self.settle(service)  # type: ignore[misc]

    # ---------------------------------------------------------------------------------- what has changed

    def note(self, changes: list[Change]) -> None:
        """Take note of changes of the view."""
        now = trio.current_time()
        for change in changes:
            if change.kind != "metadata":
                self._unsettled.setdefault(change.service, now)

    def wrote(self, what: What, revision: int) -> None:
        """Note that this server has put an instance's record, at that revision (0 if it was there)."""
        if revision:
            self._written[what] = self._view.epoch, revision

    def look_at(self, what: What) -> None:
        """Look at what the store says now of an instance that is kept here."""
        held = self._view.held(*what) or self._view.withdrawn.get(what)
        if what not in self.liveness:
            if held is not None and self._is_ours(held.record):
                self._adopt(what, held.record)
            return
        epoch, revision = self._written.get(what, ("", 0))
        if held is not None and epoch == self._view.epoch and held.modified < revision:
            # From before this registration.
            return
        if what in self._view.withdrawn:
            self.forget(what, f"it was deregistered: {self._view.withdrawn[what].record.note}")
        elif held is None or held.instance.suspect:
            return
        elif not self._is_ours(held.record):
            self.forget(what, f"it has registered at {held.record.server}")
        else:
            self.records[what] = held.record

    def _is_ours(self, record: Record) -> bool:
        return (record.server, record.incarnation) == (self._owner.server, self._owner.incarnation)

    def _adopt(self, what: What, record: Record) -> None:
        """Keep an instance whose registration was given up while it was written, or that came back with an older state of the
        store: if nobody speaks for it, it goes."""
        if not record.withdrawn:
            self.liveness.begin(what, "", record.ttl, trio.current_time(), is_held=False)
            self.records[what] = record

    def forget(self, what: What, why: str) -> None:
        """Keep an instance no more."""
        self.records.pop(what, None)
        self._written.pop(what, None)
        if self.liveness.end(what):
            self._end(what, why)

    def _is_lost(self, what: What) -> bool:
        held = self._view.held(*what)
        if what in self._view.withdrawn or what in self._leaving:
            return False
        return held is None or held.instance.suspect or instance_key(*what) in self._view.unreadable

    # ------------------------------------------------------------------------------------------- actions

    async def _drop_silent(self, what: What) -> None:
        life = self.liveness.get(what)
        if life is None or life.until is None or life.until > trio.current_time():
            return

        def plan() -> Plan | None:
            # It may have spoken while the store was away, or be another's by now.
            is_silent = self.liveness.get(what) == life and not self._is_anothers(what)
            return plan_delete(self._view, *what) if is_silent else None

        why = f"silent for {life.ttl:g} s"
        is_deleted = bool(await self._deleting(what, why, plan))
        # While that took its time it may have spoken, and then it is put back; or have been given more time, which comes too late.
        if self.liveness.get(what) == life or (is_deleted and not self.liveness.has_spoken(what, life)):
            self.forget(what, why)

    async def _put_back(self, what: What) -> None:
        def plan() -> Plan | None:
            record = self.records.get(what)
            if record is None or what not in self.liveness or not self._is_lost(what):
                return None
            return plan_put(self._view, *what, record)

        _log.warning("%s/%s lives, but is not in the store any more: it is put back", *what)
        await self._writer.write(plan)

    async def _sweep(self, what: What) -> None:
        def plan() -> Plan | None:
            is_orphan = what in self._view.orphans and what not in self._view.suspects
            return plan_delete(self._view, *what) if is_orphan else None

        await self._deleting(what, "its server is gone, and it did not come to another", plan)

    async def delete(self, what: What, why: str) -> None:
        """Delete an instance from the store."""
        await self._deleting(what, why, lambda: plan_delete(self._view, *what))

    async def _deleting(self, what: What, why: str, plan: Callable[[], Plan | None]) -> int:
        self._view.expect(*what, why)
        self._leaving.add(what)
        try:
            return await self._writer.write(plan)
        finally:
            self._leaving.discard(what)
            self._view.forgo(*what)

    def _is_anothers(self, what: What) -> bool:
        held = self._view.held(*what)
        return held is not None and held.record.server != self._owner.server

    async def settle_now(self, service: str) -> None:
        """The same, unless the store is away: then it is done when that is back."""
        with contextlib.suppress(StoreAway):
            await self.settle(service)

    async def settle(self, service: str) -> None:
        """Make the instance that is due to lead a service its leader."""
        lock = self._leading.setdefault(service, trio.Lock())
        try:
            async with lock:
                await self._writer.write(lambda: self._plan_leader(service))
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._leading.pop(service, None)
        if self._plan_leader(service) is None:
            self._unsettled.pop(service, None)

    def _plan_leader(self, service: str) -> Plan | None:
        current = self._view.leader(service)
        info = self._view.config(service)
        id = "" if current is None else current.id
        due = due_leader(info, id, self._view.all_instances(service))
        if due == id:
            return None
        return plan_leader(service, 0 if current is None else current.fence, due)
