"""Serves a handler that blocks its event loop, until standard input ends."""

from __future__ import annotations

import sys
import time

import trio

import duplex
from tests.engine.helpers import serve_until_eof

blocking = duplex.Service("blocking")


@blocking.rpc(inline=True)
def block(seconds: float) -> str:
    """Block the event loop, which is just what a handler must not do."""
    time.sleep(seconds)  # the point
    return "unblocked"


@blocking.rpc(inline=True)
def ping() -> None:
    """Return at once."""


if __name__ == "__main__":
    keepalive = duplex.Keepalive(interval=0.2, timeout=0.6)
    trio.run(lambda: serve_until_eof(blocking, endpoint=sys.argv[1], name="blocking", keepalive=keepalive))
