"""Serves methods that wait for their deadlines, in a process of its own, for ``test_told_by_the_scope``."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

import trio

import duplex
from tests.engine.helpers import serve_until_eof

naps = duplex.Service("naps")


@naps.rpc
async def rest() -> None:
    """Return at once."""


@naps.rpc
async def nap() -> None:
    """Wait for the deadline."""
    await trio.sleep_forever()


@naps.rpc
async def stream() -> AsyncIterator[int]:
    """Send an item, and wait for the deadline."""
    yield 1
    await trio.sleep_forever()


@naps.rpc
async def swallow(items: duplex.ReceiveChannel[bytes]) -> None:
    """Receive nothing until the deadline."""
    await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(functools.partial(serve_until_eof, naps, endpoint="tcp://127.0.0.1:*"))
