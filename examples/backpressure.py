"""Back-pressure: a slow reader stops a fast sender, in bytes that the reader chooses.

The handler would stream without end. Nothing is read, so it stops once the reader's window is full; memory is
bounded by ``Limits.channel_window``, whatever the other side does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
import trio.testing

import duplex

KIB = 1024
BLOCK = 4 * KIB

firehose = duplex.Service("firehose")
sent = 0


@firehose.rpc
async def flow() -> AsyncIterator[bytes]:
    """Yield blocks as fast as they are taken."""
    global sent
    while True:
        yield bytes(BLOCK)
        sent += 1  # the stream took it


async def main() -> None:
    limits = duplex.Limits(channel_window=64 * KIB)
    async with duplex.open_peer(services=[firehose]) as server, duplex.open_peer(limits=limits) as client:
        await client.connect(await server.bind("memory://firehose"))

        async with client.service("firehose").flow.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            print("sent while nothing is read:", sent * BLOCK // KIB, "KiB")

            for _ in range(1000):
                await call.receive()
            await trio.testing.wait_all_tasks_blocked()
            ahead = (sent - 1000) * BLOCK
            print("read: 1000 blocks; the sender is at most 64 KiB ahead:", 0 <= ahead <= 64 * KIB)


if __name__ == "__main__":
    trio.run(main)
