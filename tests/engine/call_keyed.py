"""Connects to an endpoint, makes a call with an idempotency key, and waits for it."""

from __future__ import annotations

import sys

import trio

import duplex


async def main(endpoint: str) -> None:
    sys.stdout.write(endpoint + "\n")
    sys.stdout.flush()
    async with duplex.open_peer() as client:
        await client.connect(endpoint)
        await client.service("till").with_options(idempotency_key="k").slow(7)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
