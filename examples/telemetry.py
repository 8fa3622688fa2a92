"""Telemetry: a stream whose sender never waits, and whose slow reader sees the latest.

The engine measures as fast as it can. Who watches it reads slowly, and old measurements are worth nothing: with
``overflow="drop_oldest"`` the oldest make room when the windows are full, and are counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
import trio.testing

import duplex

KIB = 1024
LIMITS = duplex.Limits(channel_window=16 * KIB)

engine = duplex.Service("engine")


@engine.rpc(overflow="drop_oldest")
async def measure(times: int) -> AsyncIterator[int]:
    """Yield one measurement after the other; does not wait for its reader."""
    for number in range(times):
        yield number
    statistics = duplex.current_call().statistics()
    print(f"measured {times}; {statistics.queued_items} are queued, {statistics.dropped} were dropped")


@engine.rpc
async def history(times: int) -> AsyncIterator[int]:
    """Yield every measurement, however slowly they are read: an ordinary stream."""
    for number in range(times):
        yield number


async def main() -> None:
    async with (
        duplex.open_peer(services=[engine], limits=LIMITS) as server,
        duplex.open_peer(limits=LIMITS) as client,
    ):
        link = await client.connect(await server.bind("memory://telemetry"))
        remote = client.service("engine")

        async with remote.measure.open(10_000) as call:
            await trio.testing.wait_all_tasks_blocked()  # a slow reader
            received = [number async for number in call]
        print("received", len(received), "and the latest is", received[-1])

        # The reader may have the same option: then it is the one that drops, and no sender waits for it.
        reader = remote.history.with_options(overflow="drop_newest")
        async with reader.open(10_000) as call:
            await trio.testing.wait_all_tasks_blocked()
            statistics = call.statistics()
            print(f"{statistics.buffered_items} wait in {statistics.buffered_bytes // KIB} KiB")
            received = [number async for number in call]
        print("received", len(received), "and the latest is", received[-1])
        print("dropped at this end of the link:", link.statistics().dropped_items)


if __name__ == "__main__":
    trio.run(main)
