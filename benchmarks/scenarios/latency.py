"""One unary call after the other: what a call takes when nothing else goes on."""

from __future__ import annotations

from typing import Final

from benchmarks._clocks import Laps
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL


async def _run(session: Session) -> dict[str, float]:
    call = session.client.unary
    laps = Laps(session.seconds)
    while laps.running:
        await call(SMALL)
        laps.lap()
    return {"p50": laps.median, "p99": laps.percentile(99)}


SCENARIOS: Final = (
    Scenario(
        "latency",
        "one unary call after the other, a small dict each way",
        {
            "p50": Figure("half of the calls took no longer", "µs", Better.LOWER),
            "p99": Figure("99 % of the calls took no longer", "µs", Better.LOWER),
        },
        _run,
        frozenset({"unary"}),
    ),
)
