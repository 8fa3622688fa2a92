"""Connects to an endpoint, makes a call that does not end, and waits to be killed."""

from __future__ import annotations

import sys

import trio

import duplex


async def main(endpoint: str) -> None:
    sys.stdout.write(endpoint + "\n")
    sys.stdout.flush()
    async with duplex.open_peer() as client:
        await client.connect(endpoint)
        await client.service("service").hang()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
