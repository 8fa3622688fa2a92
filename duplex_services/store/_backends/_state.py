"""The state of a store that lives in this process: what memory and sqlite share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import trio

from duplex_services.store._backend import SENTINEL, WRITERS, Changes, Listing, Outcome, Report
from duplex_services.store._model import Commit, Entry, LeaseLost
from duplex_services.store._rules._commits import changes_of, first_conflict

#: Commits whose keys are remembered for those who follow; who is further behind lists.
_REMEMBERED: Final = 4096


class Step(msgspec.Struct, frozen=True):
    """What one commit makes of the state: a revision, and entries by key, ``None`` for what is gone."""

    revision: int
    changes: dict[str, Entry | None]


class State:
    """Entries, leases and the revision. Times are ``trio.current_time()``."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        #: The seconds of each lease.
        self.leases: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        self._by_lease: dict[str, set[str]] = {}
        self._log: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=_REMEMBERED)
        self._forgotten = 0
        self._life = 0
        self._moved = trio.Event()
        self._granted = trio.Event()

    def become(self, entries: Mapping[str, Entry], revision: int, leases: Mapping[str, float]) -> None:
        """Hold something else; who follows has to list."""
        self.entries = dict(entries)
        self.revision = revision
        self.leases = dict(leases)
        self._ends = dict.fromkeys(leases, math.inf)
        self._by_lease.clear()
        for entry in self.entries.values():
            self._note_lease(entry)
        self._log.clear()
        self._forgotten = revision
        self._life += 1
        self._wake()

    # ----------------------------------------------------------------------------------------- entries

    def listing(self, prefix: str) -> Listing:
        """Return what is under a prefix now."""
        found = tuple(entry for key, entry in self.entries.items() if key.startswith(prefix))
        return Listing(found, self.revision, self.entries.get(SENTINEL))

    def plan(self, commits: Sequence[Commit]) -> tuple[list[Outcome], list[Step]]:
        """Decide what becomes of commits that do not touch each other, and change nothing."""
        outcomes: list[Outcome] = []
        steps: list[Step] = []
        revision = self.revision
        for commit in commits:
            refused = first_conflict(commit.when, self.entries.get)
            if commit.lease is not None and commit.lease not in self.leases:
                outcomes.append(LeaseLost(commit.lease))
            elif refused is not None:
                outcomes.append(refused)
            else:
                changes = changes_of(commit, self.entries.get, revision + 1)
                if changes:
                    revision += 1
                    steps.append(Step(revision, changes))
                outcomes.append(revision)
        return outcomes, steps

    def plan_end(self, lease: str) -> list[Step]:
        """Decide what the end of a lease changes."""
        keys = sorted(self._by_lease.get(lease, ()))
        return [Step(self.revision + 1, dict.fromkeys(keys))] if keys else []

    def apply(self, steps: Sequence[Step]) -> None:
        """Make planned steps, and wake those who follow."""
        for step in steps:
            for key, entry in step.changes.items():
                old = self.entries.pop(key, None)
                if old is not None and old.lease is not None:
                    self._by_lease[old.lease].discard(key)
                if entry is not None:
                    self.entries[key] = entry
                    self._note_lease(entry)
            self.revision = step.revision
            if len(self._log) == _REMEMBERED:
                self._forgotten = self._log[0][0]
            self._log.append((step.revision, tuple(step.changes)))
        if steps:
            self._wake()

    async def follow(self, since: Listing, report: Report) -> None:
        """As :meth:`Backend.follow`."""
        told = since.revision
        life = self._life
        while True:
            if self.revision == told:
                await self._moved.wait()
            if life != self._life or not self._forgotten <= told <= self.revision:
                return
            if self.revision == told:
                continue
            keys: dict[str, None] = {}
            for revision, changed in reversed(self._log):
                if revision <= told:
                    break
                keys.update(dict.fromkeys(key for key in changed if not key.startswith(WRITERS)))
            told = self.revision
            puts = tuple(self.entries[key] for key in keys if key in self.entries)
            report(Changes(puts, tuple(key for key in keys if key not in self.entries), told))

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def _note_lease(self, entry: Entry) -> None:
        if entry.lease is not None:
            self._by_lease.setdefault(entry.lease, set()).add(entry.key)

    # ------------------------------------------------------------------------------------------ leases

    def grant(self, lease: str, ttl: float, now: float) -> None:
        """Begin a lease."""
        self.leases[lease] = ttl
        self._ends[lease] = now + ttl
        self._granted.set()
        self._granted = trio.Event()

    def grace(self, now: float) -> None:
        """Give every lease twice its time: after a restart nobody knows when it was beaten for last."""
        for lease, ttl in self.leases.items():
            self._ends[lease] = now + 2 * ttl

    def beat(self, lease: str, now: float) -> None:
        """Keep a lease.

        Raises:
            LeaseLost: there is none.
        """
        if lease not in self.leases or self._ends[lease] <= now:
            raise LeaseLost(lease)
        self._ends[lease] = now + self.leases[lease]

    def forget(self, lease: str) -> None:
        """Drop a lease, whose keys are gone."""
        self.leases.pop(lease, None)
        self._ends.pop(lease, None)
        self._by_lease.pop(lease, None)

    async def ended(self) -> list[str]:
        """Wait until the time of a lease is over, and return all of which it is."""
        while True:
            with trio.move_on_at(min(self._ends.values(), default=math.inf)):
                await self._granted.wait()
            now = trio.current_time()
            over = [lease for lease, end in self._ends.items() if end <= now]
            if over:
                return over
