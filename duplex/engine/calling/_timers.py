"""Time limits of calls, and the like, at the price of an entry in a heap.

A cancel scope for each call that has a ``timeout`` costs as much as a third of the call. A call waits for one
thing only, its outcome, so the task that keeps the time can give it one: no cancellation is needed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, final

import trio


class Expires(Protocol):
    """What a timer is for."""

    def expire(self) -> None:
        """The time has come."""


#: As many entries may be there before those of calls that are over are looked for.
_MOST_STALE: Final = 1024

#: When, a number that makes it unique, and the call; ``None`` in its place once it is over, so that nothing of
#: a call is kept. A list because a heap's entries are compared from the front and this one changes.
Timer: TypeAlias = list[Any]


@final
class Timers:
    """The time limits of one peer's calls, and the task that watches the next one.

    Entries of calls that are over stay until their time comes, or until they are most of what is there.

    Args:
        spawn: runs a task of the peer's.
    """

    def __init__(self, spawn: Callable[..., None]) -> None:
        self._spawn = spawn
        self._entries: list[Timer] = []
        self._count = 0
        self._stale_from = _MOST_STALE
        self._scope: trio.CancelScope | None = None

    def add(self, when: float, call: Expires) -> Timer:
        """Let a call expire at a time, as :func:`trio.current_time` counts, unless :func:`cancel_timer` comes first."""
        entries = self._entries
        if len(entries) >= self._stale_from:
            self._sweep()
            entries = self._entries
        self._count += 1
        timer: Timer = [when, self._count, call]
        heapq.heappush(entries, timer)
        if self._scope is None:
            self._scope = trio.CancelScope(deadline=when)
            self._spawn(self._watch, name="duplex timers")
        elif when < self._scope.deadline:
            self._scope.deadline = when
        return timer

    def _sweep(self) -> None:
        self._entries = [entry for entry in self._entries if entry[2] is not None]
        heapq.heapify(self._entries)
        # Twice what is left, so that a sweep costs each call a constant.
        self._stale_from = max(_MOST_STALE, 2 * len(self._entries))

    async def _watch(self) -> None:
        while True:
            assert self._scope is not None
            with self._scope:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._entries and (self._entries[0][0] <= now or self._entries[0][2] is None):
                call: Expires | None = heapq.heappop(self._entries)[2]
                if call is not None:
                    call.expire()
            self._scope = trio.CancelScope(deadline=self._entries[0][0] if self._entries else math.inf)


def cancel_timer(timer: Timer) -> None:
    """Note that the call of a timer is over."""
    timer[2] = None
