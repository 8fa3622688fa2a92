"""Streams numbers as fast as they are taken, from behind a cursor on."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import trio

import duplex
from tests.engine.helpers import serve_until_eof

log = duplex.Service("log")


@log.rpc(resumable=True)
async def count(upto: int, *, cursor: int = -1) -> AsyncIterator[duplex.Tracked[int, int]]:
    for number in range(cursor + 1, upto):
        yield duplex.Tracked(number, number)


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(log, endpoint=sys.argv[1], name="log"))
