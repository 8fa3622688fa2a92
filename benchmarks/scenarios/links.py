"""Many links to one server: throughput over all of them, and over one while the others are idle."""

from __future__ import annotations

import functools
import itertools
from contextlib import AsyncExitStack
from typing import Final

from benchmarks._clocks import Count
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL
from benchmarks.peers import Client
from benchmarks.scenarios.throughput import calls_per_second

LINKS: Final = (1, 10, 200, 1000)
_IN_FLIGHT: Final = 64


async def spread_over(session: Session, clients: list[Client]) -> float:
    """Keep 64 calls under way, each on the link whose turn it is; return calls per second."""
    count = Count(session.seconds)
    turns = itertools.cycle([client.unary for client in clients])

    async def work() -> None:
        while count.more():
            await next(turns)(SMALL)

    await session.runtime.together([work] * _IN_FLIGHT)
    return count.per_second


async def more_clients(session: Session, stack: AsyncExitStack, number: int) -> list[Client]:
    """Give so many more clients, each with a link of its own that has been used once."""
    connect = functools.partial(session.peer.connect, session.address)
    clients = await session.runtime.keep(stack, [connect] * number)
    for client in clients:
        await client.unary(SMALL)
    return clients


async def _run(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {}
    clients = [session.client]
    async with AsyncExitStack() as stack:
        for number in LINKS:
            clients += await more_clients(session, stack, number - len(clients))
            figures[f"one-{number}"] = await calls_per_second(
                session.runtime, session.client, _IN_FLIGHT, session.seconds
            )
            figures[f"all-{number}"] = await spread_over(session, clients)
    return figures


SCENARIOS: Final = (
    Scenario(
        "links",
        f"unary calls with so many links to the server, {_IN_FLIGHT} in flight altogether",
        {
            **{f"one-{n}": Figure(f"{n} links, calls on one", "calls/s", Better.HIGHER) for n in LINKS},
            **{
                f"all-{n}": Figure(f"{n} links, calls on all in turn", "calls/s", Better.HIGHER)
                for n in LINKS
            },
        },
        _run,
        frozenset({"unary", "links"}),
        parts=2 * len(LINKS),
        extra=60,
        quick=False,
    ),
)
