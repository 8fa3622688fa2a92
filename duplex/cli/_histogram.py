"""Durations in a log-linear histogram, as HdrHistogram has them: little memory, and percentiles of known error.

A duration is a whole number of nanoseconds. Up to 256 ns every one has a bucket of its own; above, each power
of two is cut into 128 buckets of equal width. So a bucket is never wider than 1/128 of what is in it, and its
middle, which stands for all of it, is off by at most 1/256 (0.4 %), however many durations there are. The
smallest, the largest and the mean are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

#: Buckets of every power of two are ``2 ** (BITS - 1)``.
BITS: Final = 8
#: The most by which a percentile may be off, as a part of it.
RELATIVE_ERROR: Final = 2.0**-BITS

#: What is reported of every histogram, and the part of all durations that are not longer.
PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}

_NANOSECONDS: Final = 1e9


class Histogram:
    """Durations, counted."""

    __slots__ = ("_buckets", "_maximum", "_minimum", "_sum", "count")

    def __init__(self) -> None:
        #: How many durations there are.
        self.count = 0
        self._buckets: dict[int, int] = {}
        self._sum = 0
        self._minimum = 0
        self._maximum = 0

    def record(self, seconds: float) -> None:
        """Count a duration; a negative one counts as none."""
        value = max(0, int(seconds * _NANOSECONDS))
        if value < self._minimum or not self.count:
            self._minimum = value
        if value > self._maximum:
            self._maximum = value
        self.count += 1
        self._sum += value
        index = _index(value)
        self._buckets[index] = self._buckets.get(index, 0) + 1

    @property
    def minimum(self) -> float:
        """The shortest duration in seconds; 0 if there is none."""
        return self._minimum / _NANOSECONDS

    @property
    def maximum(self) -> float:
        """The longest duration in seconds; 0 if there is none."""
        return self._maximum / _NANOSECONDS

    @property
    def mean(self) -> float:
        """The mean in seconds; 0 if there is none."""
        return self._sum / self.count / _NANOSECONDS if self.count else 0.0

    def percentile(self, part: float) -> float:
        """Return the shortest duration that at least this part of all do not exceed, in seconds.

        Args:
            part: from 0 to 1.
        """
        # Of 10 000 durations, 0.9999 is the 9 999th, whatever the product of floats is.
        rank = max(1, math.ceil(part * self.count - 1e-6))
        seen = 0
        for index, count in sorted(self._buckets.items()):
            seen += count
            if seen >= rank:
                lower, width = _bucket(index)
                middle = lower + (width - 1) / 2
                return min(max(middle, self._minimum), self._maximum) / _NANOSECONDS
        return self.maximum

    def summary(self) -> dict[str, float]:
        """Return min, mean, the usual percentiles and max, in seconds."""
        percentiles = {name: self.percentile(part) for name, part in PERCENTILES.items()}
        return {"min": self.minimum, "mean": self.mean, **percentiles, "max": self.maximum}

    def buckets(self) -> Iterator[tuple[int, int, int]]:
        """Yield the buckets with something in them: the lowest value and the width in nanoseconds, and the count."""
        for index, count in sorted(self._buckets.items()):
            yield *_bucket(index), count

    def to_plain(self) -> dict[str, Any]:
        """Return everything in a form that JSON has; :meth:`from_plain` reads it."""
        return {
            "unit": "ns",
            "bits": BITS,
            "count": self.count,
            "sum": self._sum,
            "min": self._minimum,
            "max": self._maximum,
            "buckets": [[lower, count] for lower, _, count in self.buckets()],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Histogram:
        """Return the histogram that :meth:`to_plain` has written.

        Raises:
            ValueError: it is none, or of another kind.
        """
        if plain.get("unit") != "ns" or plain.get("bits") != BITS:
            raise ValueError("not a histogram of this kind")
        histogram = cls()
        histogram.count, histogram._sum = int(plain["count"]), int(plain["sum"])
        histogram._minimum, histogram._maximum = int(plain["min"]), int(plain["max"])
        histogram._buckets = {_index(int(lower)): int(count) for lower, count in plain["buckets"]}
        if sum(histogram._buckets.values()) != histogram.count:
            raise ValueError("a histogram whose buckets do not add up")
        return histogram


def _index(value: int) -> int:
    """Return the number of the bucket that a value belongs to; larger values have larger ones."""
    shift = value.bit_length() - BITS
    return value if shift <= 0 else (shift << (BITS - 1)) + (value >> shift)


def _bucket(index: int) -> tuple[int, int]:
    """Return the lowest value of a bucket, and how many values belong to it."""
    shift = max(0, (index >> (BITS - 1)) - 1)
    return (index - (shift << (BITS - 1))) << shift, 1 << shift
