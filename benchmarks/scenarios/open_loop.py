"""Calls that begin at fixed times, whether the ones before are done or not: what users of a busy server see.

A latency counts from the time at which the call *should* have begun. A server that stalls for a second so
delays all calls that were due in that second, and not one (Gil Tene's "coordinated omission").
"""

from __future__ import annotations

from typing import Final

from benchmarks._histogram import Histogram
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL

#: Calls that are to begin in a second.
RATES: Final = (1_000, 5_000, 20_000)
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99}
#: A run is this many times longer than others and makes at least so many calls, or percentiles near 100 would have
#: nothing to go by. They are taken from the latencies of all repeats together.
_LONGER: Final = 4
_CALLS: Final = 5_000


async def _run(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    call = session.client.unary

    async def small() -> None:
        await call(SMALL)

    await session.runtime.paced(small, RATES[0], session.seconds / 4, Histogram().record)
    for rate in RATES:
        histogram = session.histograms[str(rate)] = Histogram()
        seconds = max(session.seconds * _LONGER, _CALLS / rate)
        await session.runtime.paced(small, rate, seconds, histogram.record)
        for name, percent in PERCENTILES.items():
            latency = histogram.percentile(percent)
            if latency is not None:
                figures[f"{rate}-{name}"] = latency * 1e6
    return figures


SCENARIOS: Final = (
    Scenario(
        "open-loop",
        "unary calls that begin at fixed times; latencies from the time at which each should have begun",
        {
            f"{rate}-{name}": Figure(
                f"{rate:,} calls/s, {name}".replace(",", " ", 1), "µs", Better.LOWER, (str(rate), percent)
            )
            for rate in RATES
            for name, percent in PERCENTILES.items()
        },
        _run,
        frozenset({"unary", "open-loop"}),
        parts=_LONGER * len(RATES) + 1,
        extra=10 + sum(_CALLS / rate for rate in RATES),
        quick=False,
    ),
)
