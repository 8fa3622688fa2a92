"""How throughput and memory go as links, channels, methods and payloads grow by decades.

Each gives a figure for every decade; the report fits an exponent to them (:mod:`benchmarks._fits`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from benchmarks._clocks import Laps
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import some_bytes
from benchmarks.scenarios.links import more_clients, spread_over
from benchmarks.scenarios.memory import forget_peak, peak, resident
from benchmarks.scenarios.throughput import calls_per_second

DECADES: Final = (1, 10, 100, 1000)
PAYLOADS: Final = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_IN_FLIGHT: Final = 64
#: KiB below which nothing is said of memory.
_LEAST: Final = 32.0


async def _links(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    clients = [session.client]
    await spread_over(session, clients)  # or the first figures would be those of growing warm
    base = resident(session.server_pid)
    async with AsyncExitStack() as stack:
        for number in DECADES:
            clients += await more_clients(session, stack, number - len(clients))
            figures[f"rate-{number}"] = await spread_over(session, clients)
            figures |= _memory(number, resident(session.server_pid) - base)
    return figures


async def _channels(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    held = 0
    await calls_per_second(session.runtime, session.client, _IN_FLIGHT, session.seconds)
    base = resident(session.server_pid)
    async with AsyncExitStack() as stack:
        for number in DECADES:
            await session.runtime.keep(stack, [session.client.hold] * (number - held))
            held = number
            figures[f"rate-{number}"] = await calls_per_second(
                session.runtime, session.client, _IN_FLIGHT, session.seconds
            )
            figures |= _memory(number, resident(session.server_pid) - base)
    return figures


async def _methods(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    for number in DECADES:
        base = resident(session.server_pid)
        async with session.client.with_methods(number) as client:
            figures[f"rate-{number}"] = await calls_per_second(
                session.runtime, client, _IN_FLIGHT, session.seconds
            )
            figures |= _memory(number, resident(session.server_pid) - base)
    return figures


async def _payload(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    for size in PAYLOADS:
        if size > session.client.largest:
            break
        data = some_bytes(size)
        forget_peak(session.server_pid)
        before = peak(session.server_pid)
        laps = Laps(session.seconds)
        while laps.running:
            await session.client.echo(data)
            laps.lap()
        figures[f"time-{size}"] = laps.median
        figures |= _memory(size, peak(session.server_pid) - before)
    return figures


def _memory(number: int, grown: float) -> dict[str, float]:
    """Give the figure of memory that grew by so many KiB, if that is more than allocators come and go by."""
    return {f"memory-{number}": grown} if grown >= _LEAST else {}


def _decades(what: str) -> dict[str, Figure]:
    return {
        **{f"rate-{n}": Figure(f"{n} {what}", "calls/s", Better.HIGHER) for n in DECADES},
        **{f"memory-{n}": Figure(f"{n} {what}: the server's memory", "KiB", Better.LOWER) for n in DECADES},
    }


SCENARIOS: Final = (
    Scenario(
        "scaling-links",
        f"unary calls over so many links in turn, {_IN_FLIGHT} in flight",
        _decades("links"),
        _links,
        frozenset({"unary", "links"}),
        parts=len(DECADES) + 1,
        extra=60,
        quick=False,
    ),
    Scenario(
        "scaling-channels",
        f"unary calls, {_IN_FLIGHT} in flight, beside so many idle streams on the same link",
        _decades("open channels"),
        _channels,
        frozenset({"unary", "channels"}),
        parts=len(DECADES) + 1,
        extra=30,
        quick=False,
    ),
    Scenario(
        "scaling-methods",
        f"unary calls, {_IN_FLIGHT} in flight, to a server with so many services of ten methods each",
        _decades("services"),
        _methods,
        frozenset({"features"}),
        parts=len(DECADES),
        extra=60,
        quick=False,
    ),
    Scenario(
        "scaling-payload",
        "echo of so many bytes, one call after the other, median time",
        {
            **{
                f"time-{size}": Figure(f"{size:,} bytes".replace(",", " "), "µs", Better.LOWER)
                for size in PAYLOADS
            },
            **{
                f"memory-{size}": Figure(
                    f"{size:,} bytes: the most memory of the server".replace(",", " "),
                    "KiB",
                    Better.LOWER,
                )
                for size in PAYLOADS
            },
        },
        _payload,
        frozenset({"echo"}),
        parts=len(PAYLOADS),
        extra=30,
        quick=False,
    ),
)
