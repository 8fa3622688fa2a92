"""Back-pressure: a slow reader stops a fast sender, in bytes that the reader chooses.

The handler would stream for ever. Nothing is read, so it stops once the reader's window is full; memory is
bounded by ``Limits.channel_window``, whatever the other side does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
import trio.testing

import duplex

KIB = 1024

firehose = duplex.Service("firehose")
sent = 0


@firehose.rpc
async def flow() -> AsyncIterator[bytes]:
    """Yield blocks of 4 KiB as fast as they are taken."""
    global sent
    while True:
        yield bytes(4 * KIB)
        sent += 1


async def main() -> None:
    limits = duplex.Limits(channel_window=64 * KIB)
    async with duplex.open_peer(services=[firehose]) as server, duplex.open_peer(limits=limits) as client:
        await client.connect(await server.bind("memory://firehose"))

        async with client.service("firehose").flow.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            print("sent to a reader that does not read:", sent * 4, "KiB at most 64 KiB:", sent <= 16)

            before = sent
            for _ in range(1000):
                await call.receive()
            await trio.testing.wait_all_tasks_blocked()
            print("sent on when 1000 blocks were read:", sent - before)


if __name__ == "__main__":
    trio.run(main)
