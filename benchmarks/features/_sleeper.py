"""A Duplex server to be killed: prints its endpoint, and serves a stream of one item that does not end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

sleeper = duplex.Service("sleeper")


@sleeper.rpc
async def sleep(item: int) -> AsyncIterator[int]:
    """Send an item, and then nothing."""
    yield item
    await trio.sleep_forever()


async def main() -> None:
    """Serve until the process is killed."""
    async with duplex.open_peer(services=[sleeper]) as peer:
        print(await peer.bind("tcp://127.0.0.1:*"), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
