"""The queue of commits: one group at a time goes to the backend, and none before the last one is settled."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from duplex_services.store._backend import WRITERS, Backend, Outcome
from duplex_services.store._model import (
    MAX_OPERATIONS,
    Commit,
    Denied,
    StoreError,
    Unavailable,
    Unchanged,
    Unknown,
)
from duplex_services.store._rules._clocks import next_pause
from duplex_services.store._rules._commits import take_group, with_writer
from duplex_services.store._rules._settling import Sent, Settled, burn_of, give_up, settle

_log: Final = logging.getLogger("duplex")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

#: Seconds after which a writer's key is nobody's: no copy of a commit is on its way for a day.
_FORGOTTEN_AFTER: Final = 24 * 3600.0
#: Keys that one sweep takes; the next client that opens the store takes more.
_SWEPT_AT_ONCE: Final = 30


class _Waiting:
    """A commit that somebody waits for."""

    __slots__ = ("commit", "deadline", "done", "is_left", "is_sent", "outcome", "sent")

    def __init__(self, commit: Commit, deadline: float) -> None:
        self.commit = commit
        self.deadline = deadline
        self.done = trio.Event()
        self.is_left = False
        self.is_sent = False
        self.outcome: Outcome | None = None
        self.sent: Sent | None = None

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.done.set()


class CommitQueue:
    """Makes commits, in groups where they do not touch each other, and finds out what became of each.

    Args:
        backend: where to.
        client: what tells this client's writer's keys from those of all others.
        patience: seconds that one commit may take.
    """

    def __init__(self, backend: Backend, client: str, patience: float) -> None:
        self._backend = backend
        self._client = client
        self._patience = patience
        self._waiting: list[_Waiting] = []
        self._news = trio.Event()
        self._slots: dict[int, int | None] = {}
        self._count = 0
        #: Commits and groups that were sent, and commits whose first answer did not come.
        self.commits = 0
        self.groups = 0
        self.doubts = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many commits wait for their turn."""
        return len(self._waiting)

    def check_open(self) -> None:
        """Make sure that the store is not closed.

        Raises:
            Unavailable: it is.
        """
        if self._is_closed:
            raise Unavailable("this store is closed")

    async def submit(self, commit: Commit) -> int:
        """Make a commit and return its revision.

        If this is cancelled before the commit was sent, it never happens; afterwards nobody can know.

        Raises:
            Conflict, Refused: nothing changed.
            Unavailable: it was not sent.
            Unknown: nobody answered in time.
        """
        self.check_open()
        waiting = _Waiting(commit, trio.current_time() + self._patience)
        self._waiting.append(waiting)
        self._news.set()
        try:
            with trio.move_on_at(waiting.deadline):
                await waiting.done.wait()
        finally:
            waiting.is_left = True
            if not waiting.is_sent and waiting in self._waiting:
                self._waiting.remove(waiting)
        outcome = waiting.outcome
        if outcome is None:
            seconds = f"{self._patience:g} s"
            if waiting.is_sent:
                raise Unknown(
                    f"{self._backend.address} did not answer within {seconds}; the commit may happen yet"
                )
            raise Unavailable(f"for {seconds} an earlier commit was not settled; this one was not sent")
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def run(self) -> None:
        """Make what is submitted, until cancelled."""
        try:
            while True:
                if not self._waiting:
                    self._news = trio.Event()
                    await self._news.wait()
                chosen = take_group([waiting.commit for waiting in self._waiting], self._backend.group_limit)
                group = [self._waiting[index] for index in chosen]
                taken = frozenset(chosen)
                self._waiting = [one for index, one in enumerate(self._waiting) if index not in taken]
                try:
                    await self._make(group)
                finally:
                    # Only a store that is closed, or a fault of its own, leaves any of them open.
                    for one in group:
                        if not one.done.is_set():
                            one.finish(Unknown("the store was closed before the outcome was known"))
        finally:
            self._is_closed = True
            for one in self._waiting:
                one.finish(Unavailable("the store was closed before this commit was sent"))
            self._waiting.clear()

    async def _make(self, group: Sequence[_Waiting]) -> None:
        self.groups += 1
        self.commits += len(group)
        for one in group:
            one.is_sent = True
        if not self._backend.is_late:
            outcomes = await self._send([one.commit for one in group])
            for one, outcome in zip(group, outcomes, strict=True):
                self.doubts += isinstance(outcome, Unknown)
                one.finish(outcome)
            return
        for slot, one in enumerate(group):
            one.sent = self._first(slot)
        pause = 0.0
        rounds = 0
        left = list(enumerate(group))
        while left:
            rounds += 1
            outcomes = await self._send([self._commit_of(one) for _, one in left])
            again = []
            is_stuck = False
            for (slot, one), outcome in zip(left, outcomes, strict=True):
                assert one.sent is not None
                step = settle(one.sent, outcome)
                if isinstance(step, Settled):
                    self._slots[slot] = step.modified
                    one.finish(step.outcome)
                    continue
                self.doubts += step.in_doubt and not one.sent.in_doubt
                is_stuck |= step == one.sent or isinstance(outcome, Unknown)
                one.sent = step
                again.append((slot, one))
            left = again
            if left and (is_stuck or rounds > 1):
                pause = next_pause(pause, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
                await trio.sleep(pause)
            for _, one in left:
                if one.is_left and one.sent is not None and one.sent.in_doubt:
                    one.sent = give_up(one.sent)

    def _first(self, slot: int) -> Sent:
        self._count += 1
        mark = f"{self._count} {time.time():.0f}".encode()
        return Sent(f"{WRITERS}{self._client}/{slot}", self._slots.get(slot), mark)

    @staticmethod
    def _commit_of(one: _Waiting) -> Commit:
        sent = one.sent
        assert sent is not None
        if sent.verdict is not None:
            return burn_of(sent)
        return with_writer(one.commit, sent.slot, sent.modified, sent.mark)

    async def _send(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        try:
            return await self._backend.commit(commits)
        except (Denied, Unavailable, Unknown) as error:
            # One of its own for each: they will be raised in different tasks.
            return [type(error)(error.message) for _ in commits]

    async def forget(self) -> None:
        """Delete this client's writer's keys, if none of its commits has been in doubt."""
        if not self._slots or self.doubts:
            return
        deletes = tuple(f"{WRITERS}{self._client}/{slot}" for slot in sorted(self._slots))[:MAX_OPERATIONS]
        try:
            await self._backend.commit([Commit(deletes=deletes)])
        except StoreError as error:
            _log.debug(
                "writer's keys were left in %s, to be swept by others: %s", self._backend.address, error
            )

    async def sweep(self) -> None:
        """Delete writer's keys that clients of long ago have left."""
        try:
            listing = await self._backend.list(WRITERS)
            limit = time.time() - _FORGOTTEN_AFTER
            old = [entry for entry in listing.entries if _written(entry.value) < limit][:_SWEPT_AT_ONCE]
            if old:
                when = tuple(Unchanged(entry.key, entry.modified) for entry in old)
                await self.submit(Commit(deletes=tuple(entry.key for entry in old), when=when))
        except StoreError as error:
            _log.debug("the old writer's keys of %s were not swept: %s", self._backend.address, error)


def _written(mark: bytes) -> float:
    """When a mark was made, in seconds of the wall clock; one that nobody here wrote is of long ago."""
    parts = mark.split(b" ")
    try:
        return msgspec.convert(parts[1].decode(), float, strict=False)
    except (IndexError, UnicodeDecodeError, msgspec.ValidationError):
        return 0.0
