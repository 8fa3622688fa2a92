"""Calls that call back: the server calls a function of the client while the client's call is under way."""

from __future__ import annotations

import time
from typing import Final

from benchmarks._clocks import Count, Laps
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL

#: Callbacks within one call, one after the other.
_BATCH: Final = 32
_IN_FLIGHT: Final = 64


async def _run(session: Session) -> dict[str, float]:
    call_back = session.client.call_back
    laps = Laps(session.seconds)
    while laps.running:
        await call_back(SMALL, _BATCH)
        laps.lap()
    count = Count(session.seconds)

    async def work() -> None:
        begun = time.perf_counter()
        while count.more(_BATCH, begun):
            begun = time.perf_counter()
            await call_back(SMALL, _BATCH)

    await session.runtime.together([work] * _IN_FLIGHT)
    return {"time": laps.median / _BATCH, "rate": count.per_second}


SCENARIOS: Final = (
    Scenario(
        "callbacks",
        f"a call within which the server calls back {_BATCH} times, with a small dict each way",
        {
            "time": Figure("one callback, of one call after the other; median", "µs", Better.LOWER),
            "rate": Figure(f"callbacks, {_IN_FLIGHT} such calls in flight", "callbacks/s", Better.HIGHER),
        },
        _run,
        frozenset({"callbacks"}),
        parts=2,
    ),
)
