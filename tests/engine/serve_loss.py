"""Serves until it is killed, or until its standard input ends."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import trio

import duplex
from tests.engine.helpers import serve_until_eof

loss = duplex.Service("loss")


@loss.rpc
async def good() -> int:
    return 1


@loss.rpc
async def hang() -> None:
    await trio.sleep_forever()


@loss.rpc
async def ticks() -> AsyncIterator[int]:
    """One item at once, then nothing."""
    yield 1
    await trio.sleep_forever()


@loss.rpc
async def hold(function: duplex.Callback[[], None], numbers: duplex.ReceiveChannel[int]) -> None:
    """Call the caller, and then take no items."""
    await function()
    await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(loss, endpoint=sys.argv[1], name="loss"))
