"""Unary calls, many at once, from one client."""

from __future__ import annotations

from typing import Final

from benchmarks._clocks import Count
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL
from benchmarks.peers import Client
from benchmarks.peers._runtimes import Runtime

#: Calls under way at once.
IN_FLIGHT: Final = (1, 8, 64, 256)


async def calls_per_second(runtime: Runtime, client: Client, in_flight: int, seconds: float) -> float:
    """Keep so many calls under way, and return how many are done in a second."""
    count = Count(seconds)
    if client.pipelined is not None:
        await client.pipelined(in_flight, count.more)
        return count.per_second
    call = client.unary

    async def work() -> None:
        while count.more():
            await call(SMALL)

    await runtime.together([work] * in_flight)
    return count.per_second


async def _run(session: Session) -> dict[str, float]:
    return {
        str(number): await calls_per_second(session.runtime, session.client, number, session.seconds)
        for number in IN_FLIGHT
    }


SCENARIOS: Final = (
    Scenario(
        "unary",
        "unary calls of a small dict, so many in flight from one client process",
        {str(number): Figure(f"{number} in flight", "calls/s", Better.HIGHER) for number in IN_FLIGHT},
        _run,
        frozenset({"unary"}),
        parts=len(IN_FLIGHT),
    ),
)
