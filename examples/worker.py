"""A worker of which there are several: ``duplex serve examples/worker.py --discovery ENDPOINT`` starts one that is found by name."""

from __future__ import annotations

import os

import trio

import duplex

work = duplex.Service("work", version="1.0.0", description="What takes a moment, and may be done twice.")


@work.rpc(idempotent=True)
async def square(number: int) -> tuple[int, int]:
    """Return the square of a number, and the id of the process that has worked it out."""
    await trio.sleep(0.002)  # as if it were hard
    return number * number, os.getpid()
