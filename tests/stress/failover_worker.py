"""A server of the failover run: ``python -m tests.stress.failover_worker NAME ENDPOINT SECONDS JOURNAL``.

It serves until its standard input is closed, and drains on SIGTERM. Calls that must not run twice go into the journal.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import trio

import duplex


class Worker:
    """What is called.

    Args:
        name: which one it is.
        seconds: how long a call takes.
        journal: a file for the numbers of calls that must not run twice.
    """

    def __init__(self, name: str, seconds: float, journal: Path) -> None:
        self._name = name
        self._seconds = seconds
        self._journal = journal.open("a", buffering=1, encoding="utf-8")

    @duplex.rpc(idempotent=True)
    async def work(self) -> str:
        """Take that long, and say who did it."""
        await trio.sleep(self._seconds)  # what it is there for
        return self._name

    @duplex.rpc
    async def once(self, number: int) -> str:
        """Note that a call was executed."""
        self._journal.write(f"{number}\n")
        await trio.sleep(self._seconds)  # what it is there for
        return self._name


async def main(name: str, endpoint: str, seconds: float, journal: Path) -> None:
    async with duplex.open_peer(name=name) as peer, trio.open_nursery() as nursery:
        peer.expose(Worker(name, seconds, journal), name="worker")

        async def drain() -> None:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            await peer.drain(10)
            nursery.cancel_scope.cancel()

        nursery.start_soon(drain)
        sys.stdout.write(await peer.bind(endpoint) + "\n")
        sys.stdout.flush()
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
