"""Notifications: calls without an answer, which therefore cost no round trip.

Nobody learns of their outcome: the caller goes on as soon as the call is queued, and what fails is in the log
of the peer that was called. To an ``inline`` handler they come in the order in which they were sent.
"""

from __future__ import annotations

import trio

import duplex

journal = duplex.Service("journal")
entries: list[str] = []


@journal.rpc(inline=True)
def write(entry: str) -> None:
    """Note something."""
    entries.append(entry)


@journal.rpc(inline=True)
def read() -> list[str]:
    """Return everything."""
    return entries


async def main() -> None:
    async with duplex.open_peer(services=[journal]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("journal")

        for number in range(3):
            await remote.write.notify(f"entry {number}")  # returns None, at once

        print("noted:", await remote.read())


if __name__ == "__main__":
    trio.run(main)
