"""Server streaming: a handler that yields, and a caller that reads as much as it likes.

Leaving the ``async with`` block cancels a call that goes on, so the handler below ends although nobody
told it to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

numbers = duplex.Service("numbers")
handler_ended = trio.Event()


@numbers.rpc
async def squares(upto: int) -> AsyncIterator[int]:
    """Yield the squares of the numbers below one."""
    for number in range(upto):
        yield number * number


@numbers.rpc
async def powers(base: int) -> AsyncIterator[int]:
    """Yield the powers of a number, over and over, below a billion."""
    try:
        while True:
            power = 1
            while power < 1_000_000_000:
                yield power
                power *= base
    finally:
        handler_ended.set()


async def main() -> None:
    async with duplex.open_peer(services=[numbers]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("numbers")

        async with remote.squares.open(5) as call:
            print("squares:", [square async for square in call])

        async with remote.powers.open(base=10) as call:
            async for power in call:
                print("power:", power)
                if power == 1000:
                    break
        await handler_ended.wait()
        print("the endless handler was cancelled")


if __name__ == "__main__":
    trio.run(main)
