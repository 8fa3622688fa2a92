"""The clocks that all peers share: when to begin, when to stop, and what the figure is.

A peer brings only its own way to make a call.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Final

#: The part of the time that is not measured, in which connections, caches and windows grow warm.
WARM_UP: Final = 0.25


class Laps:
    """The clock of what is done one after the other::

    laps = Laps(seconds)
    while laps.running:
        call()
        laps.lap()
    """

    def __init__(self, seconds: float) -> None:
        now = time.perf_counter()
        self._last = now
        self._begin = now + WARM_UP * seconds
        self._end = now + seconds
        self._laps: list[float] = []
        #: Whether there is time for another lap. There is always time for one that counts.
        self.running = True

    def lap(self) -> None:
        """Note that one was done."""
        now = time.perf_counter()
        if self._last >= self._begin:
            self._laps.append(now - self._last)
            self.running = now < self._end
        self._last = now

    @property
    def median(self) -> float:
        """Microseconds that a lap takes."""
        return statistics.median(self._laps) * 1e6

    def percentile(self, percent: float) -> float:
        """Microseconds within which ``percent`` of the laps were done."""
        return percentile(self._laps, percent) * 1e6

    @property
    def mean(self) -> float:
        """Seconds that a lap takes on average."""
        return statistics.fmean(self._laps)


class Count:
    """The clock of what is done by many at once, or too often to look at the clock each time::

    count = Count(seconds)
    while count.more():
        call()

    Threads may share one: adding to an attribute has no point at which CPython 3.11 to 3.13 switches threads.
    """

    def __init__(self, seconds: float) -> None:
        now = time.perf_counter()
        self._begin = now + WARM_UP * seconds
        self._end = now + seconds
        self._first = 0.0
        self._last = 0.0
        self._done = 0.0

    def more(self, done: float = 1, since: float | None = None) -> bool:
        """Note that ``done`` were done since this was last asked, and tell whether there is time for more.

        Args:
            done: how many.
            since: when the first of them was begun, as ``time.perf_counter`` counts, if that may be long ago: of
                those that were under way when counting began, only a part is counted then.
        """
        now = time.perf_counter()
        if not self._first:
            if now >= self._begin:
                self._first = now
            return True
        if since is not None and since < self._first:
            done *= (now - self._first) / (now - since)
        self._done += done
        self._last = now
        return now < self._end

    @property
    def per_second(self) -> float:
        """How many were done in a second."""
        return self._done / (self._last - self._first)


class Stopwatch:
    """The clock of a stream whose receiver confirms what it got: the confirmation counts too.

    Attributes:
        elapsed: seconds since it was made.
    """

    def __init__(self, seconds: float) -> None:
        self._begin = time.perf_counter()
        self._end = self._begin + seconds

    def more(self, _done: int = 1) -> bool:
        """Tell whether there is time for more."""
        return time.perf_counter() < self._end

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._begin


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
