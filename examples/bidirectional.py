"""Both sides stream, in two styles.

A handler that takes a ``ReceiveChannel`` and yields answers item by item. A handler that takes a ``Channel``
receives and sends when it likes, which suits conversations that do not go one for one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

talk = duplex.Service("talk")


@talk.rpc
async def shout(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
    """Return every word in capitals, as it comes."""
    async for word in words:
        yield word.upper()


@talk.rpc
async def guess(channel: duplex.Channel[str, int], secret: int) -> None:
    """Let the caller guess a number: a hint for each guess, until it is right."""
    await channel.send("guess a number")
    async for number in channel:
        if number == secret:
            await channel.send("that is it")
            return
        await channel.send("higher" if number < secret else "lower")


async def main() -> None:
    async with duplex.open_peer(services=[talk]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("talk")

        async with remote.shout.open() as call:
            for word in ("brokerless", "symmetrical"):
                await call.send(word)
                print(word, "->", await call.receive())
            await call.send_eof()

        low, high = 0, 100
        async with remote.guess.open(secret=42) as call:
            print("server:", await call.receive())
            while True:
                middle = (low + high) // 2
                await call.send(middle)
                hint = await call.receive()
                print(f"client: {middle}, server: {hint}")
                if hint == "that is it":
                    break
                low, high = (middle, high) if hint == "higher" else (low, middle)


if __name__ == "__main__":
    trio.run(main)
