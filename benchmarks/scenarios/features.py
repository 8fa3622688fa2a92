"""What one feature costs: calls with it and without, in turns, within the same two processes.

Figures of different processes differ by more than a feature costs; so the two kinds of call take turns of
some milliseconds on the same connection, and the figure is the quotient of their times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks._clocks import WARM_UP
from benchmarks._model import Better, Figure, Scenario, Session

_IN_FLIGHT: Final = 64
#: Calls of one kind before the other kind has its turn.
_TURN: Final = 256
#: How many times longer than other figures these are measured: what is looked for is small.
_LONGER: Final = 3

Call = Callable[[], Awaitable[object]]


async def quotient(session: Session, plain: Call, other: Call, seconds: float) -> float:
    """Return how many times as long ``other`` takes as ``plain``: the median over pairs of turns."""
    begin = time.perf_counter()
    warm, end = begin + WARM_UP * seconds, begin + seconds
    quotients: list[float] = []
    odd = False
    while not quotients or time.perf_counter() < end:
        first, second = (other, plain) if odd else (plain, other)
        times = await _turn(session, first), await _turn(session, second)
        if time.perf_counter() >= warm:
            quotients.append(times[0] / times[1] if odd else times[1] / times[0])
        odd = not odd
    return statistics.median(quotients)


async def _turn(session: Session, call: Call) -> float:
    async def work() -> None:
        for _ in range(_TURN // _IN_FLIGHT):
            await call()

    begin = time.perf_counter()
    await session.runtime.together([work] * _IN_FLIGHT)
    return time.perf_counter() - begin


async def _run(session: Session) -> dict[str, float]:
    async with session.client.features() as pairs:
        return {
            name: await quotient(session, plain, other, session.seconds * _LONGER)
            for name, (plain, other) in pairs.items()
        }


#: A peer's ``features()`` gives a pair of calls for each: without it, and with it.
FEATURES: Final = {
    "deadline": "with_options(timeout=10)",
    "metadata": "with_options(metadata=...), two keys",
    "validation": "five annotated parameters, against the same without annotations",
    "validation-struct": "a parameter that is a msgspec.Struct, against a dict",
    "thread": "a plain function, which runs in a thread, against an async function",
    "inline": "a plain function with inline=True, against an async function",
    "open": "the call opened and then awaited, against the call itself",
    "unused": "a call that uses none of it, between peers with every option set, against peers with none",
    "same": "the same call twice: the error of these figures",
}

SCENARIOS: Final = (
    Scenario(
        "features",
        f"unary calls, {_IN_FLIGHT} in flight: the time with a feature divided by the time without it",
        {name: Figure(title, "×", Better.LOWER) for name, title in FEATURES.items()},
        _run,
        frozenset({"features"}),
        parts=len(FEATURES) * _LONGER,
        extra=20,
    ),
)
