"""One process of the soak: ``python -m tests.soak.process server|client NAME SEED ENDPOINT...``.

It takes orders, one a line, from its standard input, and ends with that; it tells what it has to tell as one
JSON object a line on its standard output.

- ``close``: close a link;
- ``block SECONDS``: hold up the event loop, as a careless handler does;
- ``finish``: begin nothing new; when all has ended, tell ``quiet``;
- ``report``: tell ``report``: links, channels, tasks and file descriptors.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any, Final

import trio

import duplex
from tests.engine.helpers import stray_tasks
from tests.soak.service import seen, soak
from tests.soak.work import Worker

#: A stopped process is lost after this, a slow one is not.
KEEPALIVE: Final = duplex.Keepalive(interval=1.0, timeout=4.0, max_silence=4.0)
#: Small enough for every limit to be met now and then.
LIMITS: Final = duplex.Limits(channel_window=64 * 1024, link_window=512 * 1024, max_message=1024 * 1024)
WORKERS: Final = 10
#: How often a process that has nothing left to do looks whether that is so.
LOOK: Final = 0.05


def tell(kind: str, **fields: Any) -> None:
    """Say something to the supervisor."""
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


def state(peer: duplex.Peer) -> dict[str, int]:
    """Count what must not grow."""
    gc.collect()
    statistics = [link.statistics() for link in peer.links]
    return {
        "links": len(peer.links),
        "channels": sum(one.outgoing + one.incoming for one in statistics),
        "held": sum(one.unconsumed for one in statistics),
        "tasks": len(stray_tasks(peer)),
        "fds": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
    }


class Process:
    """What both kinds of process share: a peer and its orders."""

    def __init__(self, peer: duplex.Peer, name: str, seed: str) -> None:
        self.peer = peer
        self.name = name
        self.random = random.Random(seed)
        self.finish = trio.Event()

    async def obey(self) -> None:
        """Follow orders until there are no more."""
        stream = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
        rest = b""
        async with stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    await self._order(*line.decode().split())

    async def _order(self, order: str, *arguments: str) -> None:
        if order == "close":
            if self.peer.links:
                await self.random.choice(self.peer.links).aclose()
        elif order == "block":
            # The whole loop has to stand still: that is the fault.
            time.sleep(float(arguments[0]))
        elif order == "finish":
            self.finish.set()
        elif order == "report":
            tell("report", **state(self.peer), twice=seen.twice[:10])


async def server(name: str, seed: str, endpoint: str) -> None:
    """Serve at an endpoint."""
    async with duplex.open_peer(services=[soak], name=name, limits=LIMITS, keepalive=KEEPALIVE) as peer:
        tell("ready", endpoint=await peer.bind(endpoint))
        await Process(peer, name, seed).obey()


async def client(name: str, seed: str, *endpoints: str) -> None:
    """Call whatever is there."""
    counts: Counter[str] = Counter()
    async with (
        duplex.open_peer(services=[soak], name=name, limits=LIMITS, keepalive=KEEPALIVE) as peer,
        trio.open_nursery() as nursery,
    ):
        process = Process(peer, name, seed)
        workers = [
            Worker(peer, f"{seed}-{number}", f"{seed}-{number}", lambda text: tell("violation", text=text))
            for number in range(WORKERS)
        ]

        async def connect(endpoint: str) -> None:
            # A server that is just being restarted is not there yet.
            while True:
                try:
                    await peer.connect(endpoint, timeout=30)
                except duplex.ConnectError:
                    continue
                return

        async def work() -> None:
            async with trio.open_nursery() as working:
                for worker in workers:
                    working.start_soon(worker.run, process.finish)
            for worker in workers:
                counts.update(worker.counts)
            tell("quiet", counts=dict(counts))

        async with trio.open_nursery() as connecting:
            for endpoint in endpoints:
                connecting.start_soon(connect, endpoint)
        tell("ready", endpoint="")
        nursery.start_soon(work)
        await process.obey()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main: Any = {"server": server, "client": client}[sys.argv[1]]
    trio.run(main, *sys.argv[2:])
