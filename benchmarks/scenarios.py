"""What is measured: the scenarios, their payloads, and the clocks that all peers share.

A peer brings only its own way to make a call. When to begin, when to stop and what the figure is are here,
so that they are the same for everybody.
"""

from __future__ import annotations

import dataclasses
import enum
import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

#: What the scenarios a, b and c carry: about 64 bytes in msgpack.
SMALL: Final[Mapping[str, Any]] = {
    "id": 1234567,
    "name": "sensor-17/temperature",
    "value": 21.625,
    "ok": True,
    "tags": ["raw", "c"],
}
#: What scenario d carries.
LARGE: Final = bytes(range(256)) * 4096
#: Calls under way at once in scenario b.
IN_FLIGHT: Final = 64
#: Stream items between two looks at the clock.
CHUNK: Final = 64
#: The part of the time that is not measured, in which connections, caches and windows grow warm.
WARM_UP: Final = 0.25


class Better(enum.Enum):
    """Which of two figures is the better one."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One thing that is measured."""

    key: str
    title: str
    unit: str
    better: Better


SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.key: scenario
    for scenario in (
        Scenario("a", "one unary call after the other, median", "µs", Better.LOWER),
        Scenario("b", f"unary calls, {IN_FLIGHT} in flight", "calls/s", Better.HIGHER),
        Scenario("c", "one server stream of small dicts", "items/s", Better.HIGHER),
        Scenario("d", f"echo of {len(LARGE) // 1024} KiB, counted once", "MB/s", Better.HIGHER),
    )
}


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

    @property
    def megabytes(self) -> float:
        """Megabytes (of 10⁶ bytes) per second, if each lap moved the large payload."""
        return len(LARGE) / statistics.fmean(self._laps) / 1e6


class Count:
    """The clock of what is done by many at once, or too often to look at the clock each time::

    count = Count(seconds)
    while count.more():
        call()
    """

    def __init__(self, seconds: float) -> None:
        now = time.perf_counter()
        self._begin = now + WARM_UP * seconds
        self._end = now + seconds
        self._first = 0.0
        self._last = 0.0
        self._done = 0

    def more(self, done: int = 1) -> bool:
        """Note that ``done`` were done since this was last asked, and tell whether there is time for more."""
        now = time.perf_counter()
        if not self._first:
            if now >= self._begin:
                self._first = now
            return True
        self._done += done
        self._last = now
        return now < self._end

    @property
    def per_second(self) -> float:
        """How many were done in a second."""
        return self._done / (self._last - self._first)
