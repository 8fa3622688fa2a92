"""The second half of the demonstration: workers that register themselves, and a caller that finds them by their name.

Discovery is embedded in this process. Elsewhere ``duplex discovery run`` serves it, over a file, Consul, etcd or ZooKeeper.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO

import trio

import duplex
from duplex_services.discovery import open_directory, open_server

WORKER = Path(__file__).with_name("worker.py")

#: How many workers there are, and how many calls each step makes.
WORKERS = 3
CALLS = 2000


class Workers:
    """Discovery, three processes that are registered there, and a caller.

    Attributes:
        discovery: where discovery is bound.
        caller: a peer that looks services up there.
        pids: of the workers that run.
    """

    def __init__(self, discovery: str, caller: duplex.Peer) -> None:
        self.discovery = discovery
        self.caller = caller
        self.pids: list[int] = []


@contextlib.asynccontextmanager
async def open_workers(log: IO[str]) -> AsyncIterator[Workers]:
    """Start them all, and stop them when the block ends."""
    started: list[trio.Process] = []
    async with (
        open_directory("memory:") as directory,
        open_server(directory, ["tcp://127.0.0.1:*"]) as (_, ends),
        duplex.open_peer(name="caller", discovery=ends[0]) as caller,
    ):
        workers = Workers(ends[0], caller)
        try:
            for number in range(1, WORKERS + 1):
                command = [sys.executable, "-m", "duplex", "serve", str(WORKER)]
                command += ["--discovery", workers.discovery, "--name", f"worker-{number}"]
                process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, stderr=log)
                started.append(process)
                workers.pids.append(process.pid)
            yield workers
        finally:
            for process in started:
                process.terminate()
            with trio.CancelScope(shield=True):
                # They withdraw at the discovery that is in this process.
                for process in started:
                    await process.wait()


async def registered(workers: Workers) -> None:
    """`duplex serve examples/worker.py --discovery ...`, three times: they register themselves"""
    known: tuple[duplex.Endpoint, ...] = ()
    while len(known) < WORKERS:
        known = await found(workers.caller)
    print(len(known), "workers are registered")


async def balanced(workers: Workers) -> None:
    """A name is an endpoint: calls are shared out among those who have it"""
    await workers.caller.connect("discovery://work")
    await linked(workers.caller, 3)
    print(await make_calls(workers.caller))


async def killed(workers: Workers) -> None:
    """One is killed in the middle, and no call fails"""
    print(await make_calls(workers.caller, then=lambda: os.kill(workers.pids.pop(), signal.SIGKILL)))
    await linked(workers.caller, 2)


async def stopped(workers: Workers) -> None:
    """One is told to stop: it withdraws, ends what it does, and no call fails"""
    print(await make_calls(workers.caller, then=lambda: os.kill(workers.pids.pop(), signal.SIGTERM)))
    await linked(workers.caller, 1)


async def found(caller: duplex.Peer) -> tuple[duplex.Endpoint, ...]:
    """Return where workers are, as discovery knows them."""
    try:
        known = await caller.look_up("discovery://work")
    except duplex.ConnectError:
        await trio.sleep(0.05)
        return ()
    return known.endpoints


async def linked(caller: duplex.Peer, count: int) -> None:
    """Wait until the caller has so many links, and print that."""
    while True:
        if len(caller.links) == count:
            print("linked with", count)
            return
        await trio.sleep(0.01)


async def make_calls(caller: duplex.Peer, then: Callable[[], object] = lambda: None) -> str:
    """Make calls, ten at once, and do something in the middle; return how many were answered, and by how many workers."""
    by_worker: Counter[int] = Counter()
    # What may be done twice is called again where a worker was lost.
    work = caller.service("work").with_options(retry=duplex.RetryPolicy(), idempotent=True)
    todo = iter(range(CALLS))

    async def call() -> None:
        for number in todo:
            square, worker = await work.square(number)
            assert square == number * number
            by_worker[worker] += 1
            if by_worker.total() == CALLS // 2:
                then()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(call)
    return f"{by_worker.total()} of {CALLS} calls answered, by {len(by_worker)} workers"


#: What is shown, and what comes of it.
STEPS: list[tuple[Callable[[Workers], Awaitable[None]], str]] = [
    (registered, "3 workers are registered"),
    (balanced, "linked with 3\n2000 of 2000 calls answered, by 3 workers"),
    (killed, "2000 of 2000 calls answered, by 3 workers\nlinked with 2"),
    (stopped, "2000 of 2000 calls answered, by 2 workers\nlinked with 1"),
]
