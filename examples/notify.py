"""Notifications: calls without an answer, which therefore cost no round trip.

Nobody learns of their outcome: the caller goes on as soon as the call is queued, and what fails is in the log
of the peer that was called.
"""

from __future__ import annotations

import trio

import duplex

journal = duplex.Service("journal")
entries: list[str] = []
all_here = trio.Event()


@journal.rpc
async def write(entry: str) -> None:
    """Note something."""
    entries.append(entry)
    if len(entries) == 3:
        all_here.set()


@journal.rpc
async def read() -> list[str]:
    """Return the entries once there are three."""
    await all_here.wait()
    return sorted(entries)


async def main() -> None:
    async with duplex.open_peer(services=[journal]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("journal")

        for number in range(3):
            await remote.write.notify(f"entry {number}")  # returns None, at once

        print("noted:", await remote.read())


if __name__ == "__main__":
    trio.run(main)
