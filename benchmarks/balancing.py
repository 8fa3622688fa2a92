"""What a slow worker costs beside two fast ones, by policy: ``python -m benchmarks.balancing``.

Three processes, in which a call takes 10, 10 and 200 ms, and callers that make one call after the other. For every
policy it tells the calls per second as a part of those that the two fast ones answer alone.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import trio
from rich.console import Console
from rich.table import Table

import duplex

#: Seconds that a call takes at each worker.
WORKERS: Final = (0.010, 0.010, 0.200)
POLICIES: Final[tuple[Literal["least_loaded", "round_robin"], ...]] = ("least_loaded", "round_robin")
_CALLERS: Final = (12, 24, 64)
_SECONDS: Final = 5.0
#: Seconds before a measurement, in which a policy may learn how the workers are.
_WARM_UP: Final = 1.0
_ROOT: Final = Path(__file__).parents[1]


class Worker:
    """What is called.

    Args:
        seconds: how long a call takes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @duplex.rpc
    async def work(self) -> None:
        """Take that long."""
        await trio.sleep(self._seconds)


async def serve(seconds: float) -> None:
    """Serve one worker, until the standard input is closed."""
    async with duplex.open_peer() as peer:
        peer.expose(Worker(seconds))
        sys.stdout.write(await peer.bind("tcp://127.0.0.1:*") + "\n")
        sys.stdout.flush()
        await trio.lowlevel.wait_readable(sys.stdin.fileno())


@contextlib.contextmanager
def served(seconds: float) -> Iterator[str]:
    """Run a worker in a process of its own; gives its endpoint."""
    command = [sys.executable, "-m", "benchmarks.balancing", "--serve", str(seconds)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.stdin.close()


async def calls_per_second(
    endpoints: Sequence[str], policy: Literal["least_loaded", "round_robin"], callers: int, seconds: float
) -> float:
    """Return how many calls a second are answered."""
    answered = 0

    async def call(method: duplex.MethodProxy) -> None:
        nonlocal answered
        while True:
            await method()
            answered += 1

    async with duplex.open_peer() as client:
        for endpoint in endpoints:
            await client.connect(endpoint)
        method = client.service("worker").with_options(balancer=policy).work
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(call, method)
            await trio.sleep(_WARM_UP)
            before, began = answered, trio.current_time()
            await trio.sleep(seconds)
            rate = (answered - before) / (trio.current_time() - began)
            nursery.cancel_scope.cancel()
    return rate


async def shares(callers: int, seconds: float) -> dict[str, float]:
    """Return what each policy makes of all three workers, as a part of what the two fast ones answer alone."""
    with contextlib.ExitStack() as stack:
        endpoints = [stack.enter_context(served(one)) for one in WORKERS]
        fast = await calls_per_second(endpoints[:2], "least_loaded", callers, seconds)
        return {
            policy: await calls_per_second(endpoints, policy, callers, seconds) / fast for policy in POLICIES
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balancing", description=__doc__)
    parser.add_argument("--callers", type=int, nargs="+", default=_CALLERS, help="calls under way at once")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of each measurement")
    parser.add_argument("--serve", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        trio.run(serve, options.serve)
        return
    table = Table(
        "callers", *POLICIES, title="10, 10 and 200 ms; 1.00 is what the two fast ones answer alone"
    )
    for callers in options.callers:
        found = trio.run(shares, callers, options.seconds)
        table.add_row(str(callers), *(f"{found[policy]:.2f}" for policy in POLICIES))
    Console().print(table)


if __name__ == "__main__":
    main()
