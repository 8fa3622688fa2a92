"""One process of the oracle: ``python -m tests.oracle.actor``, with one JSON object as its argument.

It serves, and calls those that it is told to. It takes orders, one JSON array a line, from its standard input, and ends
with that; what it has to tell goes to its standard output, one JSON object a line.

=============================== =====================================================================
``["connect", endpoint]``       connect; nothing is told
``["work", count]``             make so many calls, and then tell ``done``
``["rest"]``                    make no more calls, and when nothing is left tell ``resting`` and what
                                still is, if it does not become nothing
``["leave"]``                   the same, but drain and end
=============================== =====================================================================
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any, Final

import trio

import duplex
from tests.engine.helpers import leftovers
from tests.machine import within
from tests.oracle.journal import Journal
from tests.oracle.service import make_service
from tests.oracle.work import Caller
from tests.wires.place import in_place, shuffle_tasks

#: A link on which nothing is heard for this long is lost.
KEEPALIVE: Final = duplex.Keepalive(interval=1.0, timeout=3.0)
#: Comes back sooner than a call gives up.
RECONNECT: Final = duplex.Reconnect(initial=0.02, maximum=0.5)
#: Small enough for every window to be full now and then.
LIMITS: Final = duplex.Limits(channel_window=32 * 1024, link_window=512 * 1024, max_message=1024 * 1024)
#: Calls that are made at once.
CALLERS: Final = 40
#: Seconds after which what is left over is left for good, on a quiet machine.
REST: Final = 20.0
#: Seconds between two looks, and between two reports of progress.
LOOK: Final = 0.05
PROGRESS: Final = 0.5


def tell(kind: str, **fields: Any) -> None:
    """Say something to who runs the oracle."""
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


class Actor:
    """A peer, and what it does.

    Args:
        peer: the peer.
        orders: what it was started with.
        journal: where its calls and handlers are noted.
    """

    def __init__(self, peer: duplex.Peer, orders: dict[str, Any], journal: Journal) -> None:
        self._peer = peer
        self._orders = orders
        self._journal = journal
        self._left = 0
        self._made = 0
        self._stopped = False
        self._working = 0

    async def obey(self) -> None:
        """Follow orders until there are no more."""
        rest = b""
        async with (
            trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream,
            trio.open_nursery() as nursery,
        ):
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    what, *arguments = json.loads(line)
                    nursery.start_soon(getattr(self, f"_{what}"), *arguments)
            nursery.cancel_scope.cancel()

    async def _connect(self, endpoint: str) -> None:
        self._peer.connect_soon(endpoint)
        await trio.lowlevel.checkpoint()

    async def _work(self, count: int) -> None:
        self._left = count
        async with trio.open_nursery() as nursery:
            for number in range(CALLERS):
                nursery.start_soon(self._call, number)
            nursery.start_soon(self._tell_progress)
        tell("done", made=self._made)

    async def _call(self, number: int) -> None:
        name = f"{self._orders['life']}.{number}"
        seed = f"{self._orders['seed']} {name}"
        caller = Caller(
            self._peer, self._orders["service"], self._orders["others"], name, self._journal, seed
        )
        self._working += 1
        while self._left > 0 and not self._stopped:
            self._left -= 1
            self._made += 1
            await caller.once()
        self._working -= 1

    async def _tell_progress(self) -> None:
        while self._working:
            tell("progress", made=self._made)
            await trio.sleep(PROGRESS)  # of interest to a human only

    async def _rest(self) -> None:
        await self._stop()
        found: list[str] = []
        with trio.move_on_after(within(REST)):
            while found := [problem for link in self._peer.links for problem in leftovers(link)]:
                await trio.sleep(LOOK)  # what the other processes do tells nobody
        tell("resting", left=found, made=self._made)

    async def _leave(self) -> None:
        self._stopped = True  # the calls that it makes, and those of others, may finish
        await self._peer.drain(timeout=REST)
        await self._stop()
        tell("left")

    async def _stop(self) -> None:
        self._stopped = True
        while self._working:
            await trio.sleep(LOOK)  # until the last call has ended


async def main(orders: dict[str, Any]) -> None:
    """Serve, call, obey."""
    journal = Journal(Path(orders["journal"]))
    service = make_service(orders["service"], journal)
    async with duplex.open_peer(
        services=[service],
        name=orders["life"],
        limits=LIMITS,
        keepalive=KEEPALIVE,
        reconnect=RECONNECT,
        connect_timeout=5.0,
    ) as peer:
        tell("ready", endpoint=await peer.bind(orders["bind"]))
        await Actor(peer, orders, journal).obey()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    shuffle_tasks(given["seed"])
    # The numbers of steps that wires and tasks take are not the same in the next run, so a seed gives the same calls
    # and much the same troubles, and not the same run.
    with in_place(given["wire"], random.Random(given["seed"]).random().hex()):
        trio.run(main, given)
