"""Large payloads there and back, one call after the other: bytes, and numpy arrays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from benchmarks._clocks import Laps
from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SIZES, some_bytes


async def _megabytes(echo: Callable[[Any], Awaitable[Any]], value: Any, size: int, seconds: float) -> float:
    if len(await echo(value)) != len(value):
        raise AssertionError("what came back is not what was sent")
    laps = Laps(seconds)
    while laps.running:
        await echo(value)
        laps.lap()
    return size / laps.mean / 1e6


async def _bytes(session: Session) -> dict[str, float]:
    client = session.client
    return {
        name: await _megabytes(client.echo, some_bytes(size), size, session.seconds)
        for name, size in SIZES.items()
        if size <= client.largest
    }


async def _arrays(session: Session) -> dict[str, float]:
    # Not above: servers would import it too, and `startup` would show that.
    import numpy as np

    client = session.client
    return {
        name: await _megabytes(
            client.array, np.frombuffer(some_bytes(size), np.float64), size, session.seconds
        )
        for name, size in SIZES.items()
        if size <= client.largest
    }


def _figures(what: str) -> dict[str, Figure]:
    return {name: Figure(f"{name} of {what}, counted once", "MB/s", Better.HIGHER) for name in SIZES}


SCENARIOS: Final = (
    Scenario(
        "echo",
        "bytes there and back, one call after the other",
        _figures("bytes"),
        _bytes,
        frozenset({"echo"}),
        parts=len(SIZES),
        extra=60,
    ),
    Scenario(
        "array",
        "a numpy array of float64 there and back, one call after the other",
        _figures("numpy array"),
        _arrays,
        frozenset({"echo"}),
        parts=len(SIZES),
        extra=60,
        quick=False,
    ),
)
