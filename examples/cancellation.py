"""Cancellation: giving up a call cancels its handler, wherever that runs.

Three ways to give up: cancel the trio scope around the call, leave the ``async with`` block, or say so with
``call.cancel()``. The handler sees what any trio task sees, ``trio.Cancelled``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

slow = duplex.Service("slow")
started, starts = trio.open_memory_channel[str](10)
ended, ends = trio.open_memory_channel[str](10)


@slow.rpc
async def work(name: str) -> None:
    """Work until cancelled."""
    started.send_nowait(name)
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        ended.send_nowait(name)
        raise


@slow.rpc
async def watch(name: str) -> AsyncIterator[int]:
    """Yield one item, then nothing more."""
    try:
        yield 1
        await trio.sleep_forever()
    finally:
        ended.send_nowait(name)


async def main() -> None:
    async with duplex.open_peer(services=[slow]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("slow")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.work, "the call in a scope")
            await starts.receive()
            nursery.cancel_scope.cancel()
        print("cancelled:", await ends.receive())

        async with remote.watch.open("the call in a block") as call:
            await call.receive()
        print("cancelled:", await ends.receive())

        async with remote.watch.open("the call given up by name") as call:
            await call.receive()
            call.cancel("seen enough")
            try:
                await call.receive()
            except duplex.CallCancelled as error:
                print("at the caller:", error.message)
        print("cancelled:", await ends.receive())


if __name__ == "__main__":
    trio.run(main)
