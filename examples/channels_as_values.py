"""Channels as values: trio channels travel inside arguments and results.

Code that knows only trio can be at both ends: what the caller passes are ends of ordinary memory channels,
and several of them may go in one call.
"""

from __future__ import annotations

import trio

import duplex

pipes = duplex.Service("pipes")


@pipes.rpc
async def split(numbers: list[int], even: duplex.SendChannel[int], odd: duplex.SendChannel[int]) -> None:
    """Send each number down one of two channels of the caller's."""
    async with even, odd:
        for number in numbers:
            await (odd if number % 2 else even).send(number)


@pipes.rpc
async def zipped(
    left: duplex.ReceiveChannel[str], right: duplex.ReceiveChannel[str]
) -> list[tuple[str, str]]:
    """Pair what comes from two channels of the caller's."""
    return [(a, await right.receive()) async for a in left]


@pipes.rpc
async def ticks(count: int) -> trio.abc.ReceiveChannel[str]:
    """Return a channel to read from."""
    send, receive = trio.open_memory_channel[str](count)
    async with send:
        for number in range(count):
            await send.send(f"tick {number}")
    return receive


def filled(*items: str) -> trio.MemoryReceiveChannel[str]:
    """Return a channel that gives some items and ends."""
    send, receive = trio.open_memory_channel[str](len(items))
    with send:
        for item in items:
            send.send_nowait(item)
    return receive


async def main() -> None:
    async with duplex.open_peer(services=[pipes]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("pipes")

        to_even, even = trio.open_memory_channel[int](10)
        to_odd, odd = trio.open_memory_channel[int](10)
        await remote.split([1, 2, 3, 4, 5, 6], to_even, to_odd)
        print("even:", [number async for number in even])
        print("odd:", [number async for number in odd])

        print(await remote.zipped(filled("a", "b"), filled("x", "y")))

        async with remote.ticks.open(3) as call:  # the channel lives as long as the call
            async for tick in await call.result():
                print(tick)


if __name__ == "__main__":
    trio.run(main)
