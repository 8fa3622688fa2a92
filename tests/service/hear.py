"""Hears what another process publishes and prints it: ``python -m tests.service.hear ENDPOINT GROUP SECONDS``, with seconds for each
item."""

from __future__ import annotations

import sys

import trio

import duplex


async def main(endpoint: str, group: str, seconds: float) -> None:
    async with duplex.open_peer(limits=duplex.Limits(channel_window=1024)) as peer:
        await peer.connect(endpoint)
        async with peer.service("board").headlines.open(group or None) as headlines:
            async for headline in headlines:
                sys.stdout.write(f"{headline}\n")
                sys.stdout.flush()
                await trio.sleep(seconds)  # how slow it is


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]))
