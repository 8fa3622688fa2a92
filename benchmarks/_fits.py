"""How a figure grows with what it depends on: an exponent, by least squares in a log-log plot.

A time or memory that grows as the first power is linear, one of exponent 0 does not grow. For a rate, 0 means that
nothing gets slower.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks._results import Results


@dataclasses.dataclass(frozen=True)
class Fit:
    """The curve ``y = factor * x ** exponent`` through some points."""

    exponent: float
    factor: float
    #: The part of the variance that the curve explains (R²); 1 where there is none.
    explained: float


#: Families of figures that are fitted: what grows, and what is looked at.
FAMILIES: Final = {
    "scaling-links.rate": "calls/s as links grow",
    "scaling-links.memory": "the server's memory as links grow",
    "scaling-channels.rate": "calls/s as open channels grow",
    "scaling-channels.memory": "the server's memory as open channels grow",
    "scaling-methods.rate": "calls/s as registered services grow",
    "scaling-methods.memory": "the server's memory as registered services grow",
    "scaling-payload.time": "the time of an echo as its payload grows",
    "scaling-payload.memory": "the server's memory at most as the payload of an echo grows",
}


def points(results: Results, peer: str, family: str) -> list[tuple[float, float]]:
    """Return (x, median) of the figures ``FAMILY-x`` that a peer has, by x."""
    found = []
    for name in results.names:
        match = re.fullmatch(re.escape(family) + r"-(\d+)", name)
        median = results.median(peer, name) if match else None
        if match and median is not None:
            found.append((float(match[1]), median))
    return sorted(found)


def fit(values: Iterable[tuple[float, float]]) -> Fit | None:
    """Fit a power to points with positive coordinates; ``None`` if there are fewer than three."""
    logarithms = [(math.log(x), math.log(y)) for x, y in values if x > 0 and y > 0]
    if len(logarithms) < 3:
        return None
    mean_x = _mean([x for x, _ in logarithms])
    mean_y = _mean([y for _, y in logarithms])
    across = sum((x - mean_x) ** 2 for x, _ in logarithms)
    if not across:
        return None
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in logarithms) / across
    whole = sum((y - mean_y) ** 2 for _, y in logarithms)
    rest = sum((y - mean_y - exponent * (x - mean_x)) ** 2 for x, y in logarithms)
    factor = math.exp(mean_y - exponent * mean_x)
    return Fit(exponent, factor, 1 - rest / whole if whole > 1e-12 else 1.0)


def exponent(results: Results, peer: str, family: str) -> float | None:
    """Return the exponent of one family of a peer's figures, if there are enough of them."""
    found = fit(points(results, peer, family))
    return None if found is None else found.exponent


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
