"""A process under test: ``python -m tests.faults.actor OPTIONS``, told what to do over its standard input.

Both sides of every fault run this module, so each can serve and call. A line of input is a JSON object
``{"id": 1, "do": "bind", ...}`` and is answered by ``{"id": 1, "result": ...}`` or ``{"id": 1, "error": "..."}``;
several may be under way at once. The process ends with its input.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any, Final

import msgspec
import trio

import duplex
from tests.engine.helpers import leftovers, stray_tasks
from tests.faults import loads, memory
from tests.faults.ledger import Ledger, Outcomes, name_of
from tests.faults.service import NAME, Faulty, Flood

#: Bytes read at once from standard input.
_CHUNK: Final = 65_536
#: Seconds between two looks at the statistics of all links.
_WATCH: Final = 0.02
#: Seconds that a link may take to answer a ping which makes sure that everything before it has arrived.
_ANSWER: Final = 20.0


class Actor:
    """The process's peer and what it has seen; the methods ``do_...`` are its commands."""

    def __init__(self, peer: duplex.Peer, options: dict[str, Any], nursery: trio.Nursery) -> None:
        self.peer = peer
        self.nursery = nursery
        self.ledger = Ledger(options["executions"])
        self.outcomes = Outcomes()
        self.service = Faulty(self.ledger, self.outcomes)
        peer.expose(self.service, name=NAME)
        # A call that cannot begin, and a stream that stalls, must end by themselves: no timeouts here.
        self.caller = loads.Caller(peer.service(NAME), options["tag"], self.ledger, self.outcomes)
        self.load = loads.Load(self.caller)
        self.bell = self.outcomes.bell
        #: Links seen so far, when the latest one ended, and the most that the other side was behind.
        self.links: dict[int, duplex.Link] = {}
        self.link_count = 0
        self.link_lost_at: float | None = None
        self.worst_delay = 0.0

    async def watch(self) -> None:
        """Note what becomes of the links."""
        while True:
            now = {id(link): link for link in self.peer.links}
            for key in self.links.keys() - now.keys():
                del self.links[key]
                self.link_lost_at = time.monotonic()
                self.bell.ring()
            for key, link in now.items():
                if key not in self.links:
                    self.links[key] = link
                    self.link_count += 1
                    self.bell.ring()
                self.worst_delay = max(self.worst_delay, link.statistics().remote_delay or 0.0)
            await trio.sleep(_WATCH)

    # -- links -----------------------------------------------------------------------------------------

    async def do_bind(self, endpoint: str) -> str:
        return await self.peer.bind(endpoint)

    async def do_connect(self, endpoint: str) -> None:
        await self.peer.connect(endpoint)

    async def do_wait_links(self, count: int) -> None:
        """Return once there are so many links."""
        await self.bell.wait_for(lambda: len(self.links) == count)

    async def do_wait_link_lost(self, since: float) -> None:
        """Return once a link was lost after that moment; there may be another one by then."""
        await self.bell.wait_for(lambda: self.link_lost_at is not None and self.link_lost_at >= since)

    async def do_links(self) -> dict[str, Any]:
        return {
            "open": len(self.links),
            "ever": self.link_count,
            "lost_at": self.link_lost_at,
            "worst_delay": self.worst_delay,
            "statistics": [msgspec.to_builtins(link.statistics()) for link in self.peer.links],
        }

    # -- calls -----------------------------------------------------------------------------------------

    async def do_load(
        self, kinds: list[str], tasks: int, length: int = loads.ENDLESS, times: int = 1, again: bool = False
    ) -> None:
        """Begin with calls; see :meth:`Load.run`."""
        await self.load.run(kinds, tasks, length=length, times=times, again=again, nursery=self.nursery)

    async def do_stop(self) -> None:
        """Begin no more calls, and return once those under way have ended."""
        self.load.stop()
        await self.load.wait()

    async def do_wait_load(self) -> None:
        """Return once all calls of the load have ended."""
        await self.load.wait()

    async def do_wait_answer_of(self, pid: int) -> None:
        """Return once a call was answered by that process."""
        await self.bell.wait_for(lambda: pid in self.caller.answered)

    async def do_wait_handlers(self, count: int) -> None:
        """Return once so many handlers run here."""
        await self.ledger.bell.wait_for(lambda: sum(self.ledger.under_way.values()) >= count)

    async def do_wait_idle(self) -> None:
        """Return once no handler runs here."""
        await self.ledger.bell.wait_for(lambda: not sum(self.ledger.under_way.values()))

    async def do_block_other(self, seconds: float) -> None:
        """Have the other side's event loop blocked; return when it is not any more."""
        number = self.caller.number()
        with self.outcomes.call("block", number):
            await self.caller.remote.block(number, seconds)

    async def do_block(self, seconds: float) -> None:
        """Block this process's event loop."""
        time.sleep(seconds)  # what the command is for

    async def do_flood_begin(self, count: int) -> None:
        """Be ready for a flood."""
        self.service.flood = Flood(count)

    async def do_flood(self, way: str, count: int, tasks: int) -> dict[str, Any]:
        result = await loads.flood(self.caller, way, count, tasks)
        await self._settle_links()
        return result

    async def do_flood_seen(self) -> dict[str, int]:
        flood = self.service.flood
        return {"came": flood.came, "twice": flood.twice, "different": sum(flood.seen)}

    async def do_abandon(self, count: int, tasks: int, seed: int) -> dict[str, int]:
        result = await loads.abandon(self.caller, count, tasks, seed)
        await self._settle_links()
        return result

    async def do_hold(self, count: int) -> None:
        """Open so many calls, and keep them open until the process ends."""
        for index in range(count):
            method = ("hang", "consume", "mirror", "produce")[index % 4]
            self.nursery.start_soon(loads.hold, self.caller, self.caller.number(), method)

    async def do_slow_receive(self, size: int, pause: float, blocks: int) -> int:
        return await loads.slow_receive(self.caller, size, pause, blocks)

    async def do_slow_send(
        self, size: int, pause: float, seconds: float = math.inf, blocks: float = math.inf
    ) -> int:
        return await loads.slow_send(self.caller, size, pause, seconds, blocks)

    async def do_beat(self, seconds: float, pause: float) -> list[float]:
        return await loads.beat(self.caller, seconds, pause)

    # -- what came of it -------------------------------------------------------------------------------

    async def do_outcomes(self, *, forget: bool = False) -> dict[str, Any]:
        """How the calls of this side have ended since it was asked to forget."""
        outcomes = self.outcomes
        found = {
            "counts": [[*key, count] for key, count in outcomes.counts.items()],
            "failed": outcomes.failed,
            "slowest": outcomes.slowest,
            "under_way": outcomes.under_way,
        }
        if forget:
            outcomes.forget()
        return found

    async def do_seen(self) -> dict[str, Any]:
        """What this side has seen as the one that is called."""
        ledger = self.ledger
        return {
            "under_way": dict(+ledger.under_way),
            "ended": [[*key, count] for key, count in ledger.ended.items()],
            "last_end": ledger.last_end,
            "problems": [
                *ledger.problems,
                *[f"and {ledger.dropped_problems} more"] * bool(ledger.dropped_problems),
            ],
            "poured": self.service.poured,
            "sipped": self.service.sipped,
        }

    async def do_forget(self) -> None:
        """Begin to count anew."""
        self.outcomes.forget()
        self.ledger.forget()
        self.service.flood = Flood(0)
        self.service.poured = self.service.sipped = 0
        self.worst_delay = 0.0

    async def do_figures(self) -> dict[str, Any]:
        """What this process takes once all is quiet, and what is left over of calls that have ended."""
        await self._settle_links()
        memory.settle()
        pid = os.getpid()
        return {
            "rss": memory.resident(pid),
            "descriptors": memory.descriptors(pid),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "strays": stray_tasks(self.peer),
            "left": [problem for link in self.peer.links for problem in leftovers(link)],
        }

    async def _settle_links(self) -> None:
        """Return once everything that was sent on the links was handled; a link that is lost has nothing."""
        for link in self.peer.links:
            with trio.move_on_after(_ANSWER):
                for _ in range(2):
                    try:
                        await link.ping()
                    except duplex.Unavailable:
                        break

    # -- the control channel ---------------------------------------------------------------------------

    async def obey(self) -> None:
        """Take commands until there are no more."""
        stream = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
        rest = b""
        async with stream:
            while chunk := await stream.receive_some(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.nursery.start_soon(self._answer, json.loads(line))

    async def _answer(self, command: dict[str, Any]) -> None:
        number = command.pop("id")
        method = getattr(self, f"do_{command.pop('do')}")
        try:
            say({"id": number, "result": await method(**command)})
        except (duplex.DuplexError, AssertionError, loads.Wrong) as error:
            say({"id": number, "error": f"{name_of(error)}: {error}"})


def say(answer: dict[str, Any]) -> None:
    """Write a line. The other end always reads, so this does not block for long."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def peer_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``open_peer``."""
    interval, timeout = options["keepalive"]
    return {
        "name": options["name"],
        "keepalive": duplex.Keepalive(interval=interval, timeout=timeout, max_silence=options["max_silence"]),
        "limits": duplex.Limits(**options.get("limits", {})),
        "connect_timeout": options.get("connect_timeout", 10.0),
        "reconnect": duplex.Reconnect(initial=0.05, maximum=options.get("reconnect_maximum", 0.5)),
    }


async def main(options: dict[str, Any]) -> None:
    """Be the process that the options describe."""
    async with duplex.open_peer(**peer_options(options)) as peer, trio.open_nursery() as nursery:
        actor = Actor(peer, options, nursery)
        nursery.start_soon(actor.watch)
        say({"id": 0, "result": os.getpid()})
        await actor.obey()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
