"""Streams of small items: to the client, to the server, and both at once."""

from __future__ import annotations

from typing import Final

from benchmarks._clocks import Count, Stopwatch
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL


async def _download(session: Session) -> dict[str, float]:
    count = Count(session.seconds)
    await session.client.download(SMALL, count.more)
    return {"rate": count.per_second}


async def _upload(session: Session) -> dict[str, float]:
    await session.client.upload(SMALL, Stopwatch(session.seconds / 4).more)
    watch = Stopwatch(session.seconds)
    received = await session.client.upload(SMALL, watch.more)
    return {"rate": received / watch.elapsed}


async def _both(session: Session) -> dict[str, float]:
    await session.client.converse(SMALL, Stopwatch(session.seconds / 4).more)
    watch = Stopwatch(session.seconds)
    received = await session.client.converse(SMALL, watch.more)
    rate = received / watch.elapsed
    return {"rate": rate, "carried": 2 * rate}


SCENARIOS: Final = (
    Scenario(
        "download",
        "one server stream that does not end, each item the same small dict",
        {"rate": Figure("items that the client received", "items/s", Better.HIGHER)},
        _download,
        frozenset({"download"}),
    ),
    Scenario(
        "upload",
        "one client stream, until the server has told how many items it received",
        {"rate": Figure("items that the server received", "items/s", Better.HIGHER)},
        _upload,
        frozenset({"upload"}),
        parts=2,
    ),
    Scenario(
        "bidi",
        "one stream in both directions, the server sends every item back",
        {
            "rate": Figure("items that came back", "items/s", Better.HIGHER),
            "carried": Figure("items carried, each there and back", "items/s", Better.HIGHER),
        },
        _both,
        frozenset({"bidi"}),
        parts=2,
    ),
)
