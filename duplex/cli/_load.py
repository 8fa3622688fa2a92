"""Making calls, one after another or at a rate, and measuring them.

In a closed loop every worker makes a call when its last one has ended, so a service that stalls is asked less
while it does, and the percentiles hardly show it. In an open loop calls are due at times that do not depend on
any answer, and a call's latency counts from the time that it was due. One that has to wait here, because as many
as may be are in flight or because this process cannot keep up, is not spared that wait, which is reported too.

Calls that are due wait as numbers in a schedule, not as objects, so memory is bounded by those in flight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._figures import Attempt, Figures
from duplex.cli._shots import Shot
from duplex.cli._timer import Timer

#: Seconds that calls under way at the end may go on.
GRACE: Final = 10.0
#: Seconds that calls which were due before the end may still be made after it, to catch up on a late timer.
_LATE: Final = 0.05
#: Calls that are made in a row when they are late, before anything else may happen.
_BURST: Final = 16
#: Seconds between two looks at how late timers are.
_LOOK: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How calls are made. Times are seconds."""

    #: How many calls are under way at once in a closed loop, and at most in an open one.
    concurrency: int = 1
    #: Calls a second in an open loop; ``None`` for a closed one.
    rate: float | None = None
    #: How long calls are made after the warm-up; infinite if only ``count`` ends it.
    duration: float = math.inf
    warmup: float = 0.0
    #: How many calls are made after the warm-up at most.
    count: int | None = None


async def fire(plan: Plan, shots: Sequence[Shot], figures: Figures) -> None:
    """Make calls as planned, and wait for them to end, though not longer than :data:`GRACE`.

    If this is cancelled, ``figures`` are what was measured so far.

    Args:
        plan: how.
        shots: what makes a call; they take turns.
        figures: where to count.

    Raises:
        CommandError: a call cannot be made at all.
        DuplexError: the same; what calls end with is counted instead.
    """
    await _Load(plan, shots, figures).run()


class _Load:
    def __init__(self, plan: Plan, shots: Sequence[Shot], figures: Figures) -> None:
        self._plan = plan
        self._shots = shots
        self._figures = figures
        self._start = trio.current_time()
        self._begins = self._start + plan.warmup
        self._ends = self._begins + plan.duration
        self._stopped = False
        self._in_flight = 0
        self._freed = trio.Event()
        self._everything = trio.CancelScope()
        self._problem: Exception | None = None

    async def run(self) -> None:
        if not self._plan.warmup:
            self._figures.open_window()
        try:
            async with trio.open_nursery() as watchers:
                self._everything = watchers.cancel_scope
                watchers.start_soon(self._keep_window)
                watchers.start_soon(self._watch_loop)
                async with trio.open_nursery() as calls:
                    if self._plan.rate is None:
                        for number in range(self._plan.concurrency):
                            calls.start_soon(self._work, self._shots[number % len(self._shots)])
                    else:
                        await self._dispatch(calls, self._plan.rate)
                watchers.cancel_scope.cancel()
        finally:
            self._figures.close_window()
        if self._problem is not None:
            raise self._problem

    # -- the window ----------------------------------------------------------------------------------

    async def _keep_window(self) -> None:
        if not self._figures.is_open:
            await trio.sleep_until(self._begins)
            self._figures.open_window()
        await trio.sleep_until(self._ends)
        self._figures.close_window()
        self._stopped = True
        await trio.sleep(GRACE)
        self._everything.cancel()

    async def _watch_loop(self) -> None:
        with Timer() as timer:
            while True:
                due = trio.current_time() + _LOOK
                await timer.sleep_until(due)
                if self._figures.is_open:
                    self._figures.loop_delay.record(trio.current_time() - due)

    def _claim(self, counts: bool) -> bool:
        """Take one of the calls that are to be made; tell whether there was one left."""
        if counts:
            if self._figures.started == self._plan.count:
                self._stopped = True
                return False
            self._figures.started += 1
        return True

    # -- two ways to make calls ----------------------------------------------------------------------

    async def _work(self, shot: Shot) -> None:
        while not self._stopped:
            now = trio.current_time()
            counts = now >= self._begins
            if not self._claim(counts):
                return
            self._in_flight += 1
            await self._call(shot, now, counts)

    async def _dispatch(self, calls: trio.Nursery, rate: float) -> None:
        # The first call after the warm-up. A little less, so that what floats make of a whole number does not
        # count as one more.
        first = math.ceil(self._plan.warmup * rate - 1e-6)
        number = 0
        held_up = -1
        try:
            with trio.CancelScope(deadline=self._ends + _LATE), Timer() as timer:
                while (due := self._start + number / rate) < self._ends:
                    if number < first and trio.current_time() >= self._begins:
                        # Calls of the warm-up that are still due would only be in the way of what is measured.
                        number = first
                    elif due > trio.current_time():
                        await timer.sleep_until(due)
                    elif self._in_flight >= self._plan.concurrency:
                        if number >= first and number != held_up:
                            held_up = number
                            self._figures.held_up += 1
                        self._freed = trio.Event()
                        await self._freed.wait()
                    elif self._claim(number >= first):
                        self._in_flight += 1
                        shot = self._shots[number % len(self._shots)]
                        calls.start_soon(self._call, shot, due, number >= first)
                        number += 1
                        if number % _BURST == 0:
                            await trio.lowlevel.checkpoint()
                    else:
                        return
        finally:
            self._count_unsent(max(number, first), rate)

    def _count_unsent(self, number: int, rate: float) -> None:
        """Count the calls that are due and will not be made, from a number in the schedule on."""
        end = min(trio.current_time(), self._ends)
        unsent = math.ceil((end - self._start) * rate - 1e-6) - number
        if self._plan.count is not None:
            unsent = min(unsent, self._plan.count - self._figures.started)
        if unsent > 0:
            self._figures.unsent = unsent
            self._figures.unsent_for = end - (self._start + number / rate)

    async def _call(self, shot: Shot, due: float, counts: bool) -> None:
        """Make one call, and count it if it is not of the warm-up."""
        figures = self._figures
        attempt = Attempt(figures)
        if counts and self._plan.rate is not None:
            figures.start_delay.record(trio.current_time() - due)
        try:
            await shot(attempt)
        except duplex.RPCError as error:
            if counts:
                figures.failure(error, trio.current_time() - due)
            # Failing may take no time at all; everybody else gets a turn.
            await trio.lowlevel.checkpoint()
        except (CommandError, duplex.DuplexError) as error:
            self._problem = error
            self._stopped = True
            self._everything.cancel()
        else:
            if figures.is_open:
                figures.answered += 1
            if counts:
                figures.latency.record(trio.current_time() - due)
        finally:
            if counts and attempt.first is not None:
                figures.first_item.record(attempt.first - due)
            self._in_flight -= 1
            self._freed.set()
