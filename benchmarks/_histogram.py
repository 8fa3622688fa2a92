"""A histogram of latencies with a fixed relative error, in the manner of HdrHistogram.

Each power of two is cut into 128 equal buckets, so a value is known to 1/128 (0.8 %) of itself, from a nanosecond
to hours, in a dict that holds only buckets with something in them. Histograms of repeats are added to
one another, which percentiles cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

_STEPS: Final = 128
_NANOSECONDS: Final = 1e9


class Histogram:
    """Counts of latencies, given and returned in seconds."""

    def __init__(self, buckets: Mapping[str, int] | None = None) -> None:
        self._buckets: dict[int, int] = {int(key): count for key, count in (buckets or {}).items()}

    def record(self, seconds: float) -> None:
        """Count one latency; what is below a nanosecond counts as one."""
        mantissa, exponent = math.frexp(max(1.0, seconds * _NANOSECONDS))
        bucket = exponent * _STEPS + int((mantissa - 0.5) * 2 * _STEPS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def add(self, other: Histogram) -> None:
        """Take over the counts of another."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    @property
    def count(self) -> int:
        """How many were recorded."""
        return sum(self._buckets.values())

    def percentile(self, percent: float) -> float | None:
        """Return seconds within which ``percent`` were; ``None`` if too few were recorded to say.

        Too few: where fewer than one value would lie above.
        """
        total = self.count
        if not total or total * (100 - percent) / 100 < 1 - 1e-9:
            return None
        rank = math.ceil(total * percent / 100 - 1e-9)
        seen = 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            if seen >= rank:
                return _upper(bucket)
        raise AssertionError("a rank is never above the count")

    @property
    def maximum(self) -> float:
        """Seconds that nothing exceeded; 0 of nothing."""
        return _upper(max(self._buckets)) if self._buckets else 0.0

    def curve(self) -> Iterator[tuple[float, float]]:
        """Give (percent, seconds) of every bucket, for plots."""
        total, seen = self.count, 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            yield 100 * seen / total, _upper(bucket)

    def to_json(self) -> dict[str, int]:
        """Return the counts by bucket, which the constructor takes."""
        return {str(bucket): count for bucket, count in sorted(self._buckets.items())}


def _upper(bucket: int) -> float:
    exponent, step = divmod(bucket, _STEPS)
    return math.ldexp(0.5 + (step + 1) / (2 * _STEPS), exponent) / _NANOSECONDS
