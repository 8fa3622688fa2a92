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
async def hold(function: duplex.Callback[[], None], numbers: duplex.ReceiveChannel[int]) -> int:
    """Call the caller, then take items slowly: none."""
    await function()
    await trio.sleep_forever()
    return 0  # pragma: no cover


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(loss, endpoint=sys.argv[1], name="loss"))
