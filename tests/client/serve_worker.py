"""Serves calls that may run twice: ``python -m tests.client.serve_worker NAME ENDPOINT SECONDS``."""

from __future__ import annotations

import sys

import trio

import duplex
from tests.engine.helpers import serve_until_eof

worker = duplex.Service("worker")
NAME, ENDPOINT, SECONDS = sys.argv[1:4] if len(sys.argv) > 3 else ("", "", "0")


@worker.rpc(idempotent=True)
async def work() -> str:
    await trio.sleep(float(SECONDS))  # what it is there for
    return NAME


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(worker, endpoint=ENDPOINT, name=NAME))
