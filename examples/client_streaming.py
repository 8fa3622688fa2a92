"""Client streaming: the caller sends items one by one and gets one result.

The parameter annotated ``ReceiveChannel`` is the caller's stream; other parameters are given to ``open()``.
The last call shows that each item is checked against the annotation.
"""

from __future__ import annotations

import trio

import duplex

statistics = duplex.Service("statistics")


@statistics.rpc
async def mean(numbers: duplex.ReceiveChannel[float], digits: int = 2) -> float:
    """Return the mean of a stream of numbers."""
    count, total = 0, 0.0
    async for number in numbers:
        count += 1
        total += number
    if not count:
        raise duplex.FailedPrecondition("the mean of no numbers is not defined")
    return round(total / count, digits)


async def main() -> None:
    async with duplex.open_peer(services=[statistics]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("statistics")

        async with remote.mean.open(digits=3) as call:
            for number in (1, 2, 4):
                await call.send(number)
            print("mean:", await call.result())  # ends the stream, then waits

        async with remote.mean.open() as call:
            await call.send_eof()
            try:
                await call.result()
            except duplex.FailedPrecondition as error:
                print("no numbers:", error.message)

        async with remote.mean.open() as call:
            await call.send("seven")
            try:
                await call.result()
            except duplex.InvalidArgument as error:
                print("not a number:", error.message)


if __name__ == "__main__":
    trio.run(main)
