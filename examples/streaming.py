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
async def fibonacci() -> AsyncIterator[int]:
    """Yield the Fibonacci numbers, for ever."""
    a, b = 0, 1
    try:
        while True:
            yield a
            a, b = b, a + b
    finally:
        handler_ended.set()


async def main() -> None:
    async with duplex.open_peer(services=[numbers]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("numbers")

        async with remote.squares.open(5) as call:
            print("squares:", [square async for square in call])

        async with remote.fibonacci.open() as call:
            async for number in call:
                if number > 50:
                    break
                print("fibonacci:", number)
        await handler_ended.wait()
        print("the endless handler was cancelled")


if __name__ == "__main__":
    trio.run(main)
