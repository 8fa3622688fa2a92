"""Serves what ``test_load`` asks for, in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import trio

import duplex
from tests.engine.helpers import serve_until_eof

MiB = 1024 * 1024
#: So that arrays of 64 MiB pass.
LIMITS = duplex.Limits(max_message=80 * MiB)

load = duplex.Service("load")


class Gaps:
    """The longest time between two items."""

    def __init__(self) -> None:
        self._last = trio.current_time()
        self.longest = 0.0

    def note(self) -> None:
        """An item came."""
        now = trio.current_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now


async def exchange(channel: Any, count: int, *, end: bool) -> float:
    """Send the numbers up to ``count`` and receive the same, in order; return the longest gap in seconds.

    One side says ``end``. The other's end is that of the call, which brings the trailers.
    """
    gaps = Gaps()

    async def send() -> None:
        for number in range(count):
            await channel.send(number)
        if end:
            await channel.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        expected = 0
        async for number in channel:
            if number != expected:
                raise duplex.DataLoss(f"{number} came instead of {expected}")
            expected += 1
            gaps.note()
    if expected != count:
        raise duplex.DataLoss(f"{expected} items came instead of {count}")
    return gaps.longest


@load.rpc(name="exchange")
async def serve_exchange(channel: duplex.Channel[int, int], count: int) -> None:
    """Do as the caller does, and tell the longest gap in the trailers."""
    duplex.current_call().trailers["longest-gap"] = str(await exchange(channel, count, end=False))


@load.rpc
async def echo(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an array as it came."""
    return array


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(load, endpoint=sys.argv[1], limits=LIMITS))
