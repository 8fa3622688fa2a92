"""Serves a method that answers at once, and waits to be killed."""

from __future__ import annotations

import sys

import trio

import duplex

service = duplex.Service("work")


@service.rpc
async def echo(number: int) -> int:
    return number


async def main() -> None:
    async with duplex.open_peer(services=[service]) as server:
        sys.stdout.write(await server.bind("tcp://127.0.0.1:*") + "\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
