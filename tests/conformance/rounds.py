"""``python -m tests.conformance.rounds --rounds N``: our own peer, a process of its own, tried again and again.

A scenario that passes by chance, or fails by it, shows here: every round tries every scenario, first with the peer
bound, then with peers that connect. With ``--busy`` each core has something else to do meanwhile.

``python -m tests.conformance.rounds --serve`` is the peer.
"""

from __future__ import annotations

import argparse
import collections
import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from duplex.conformance import FAILED, PASSED, Result, Scenario, Timing, run
from tests.conformance.helpers import JOBS, SCENARIOS, bound_peer, connect_for_ever

#: What has to come has long enough on a busy machine; what must not come is waited for briefly, as it never fails a peer.
TIMING: Final = Timing(step=30.0, quiet=0.05)

#: Peers that connect; each has a share of the scenarios, which take turns on its links.
SHARES: Final = 24


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# -- the peer ------------------------------------------------------------------------------------------------


async def serve() -> None:
    """Be the peer: print where it is bound, and connect to every endpoint that is said on standard input."""
    async with bound_peer() as endpoint, trio.open_nursery() as nursery:
        say(endpoint)
        async for line in trio.wrap_file(sys.stdin):
            nursery.start_soon(connect_for_ever, line.strip())
        nursery.cancel_scope.cancel()


class Peer:
    """The peer as a process; a context manager."""

    def __enter__(self) -> Peer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.rounds", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it logs every violation
            text=True,
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its standard input, which ends it

    def connect(self, endpoint: str) -> None:
        """Let a further peer of the process connect to an endpoint, again and again."""
        assert self._process.stdin is not None
        self._process.stdin.write(endpoint + "\n")
        self._process.stdin.flush()


# -- the rounds ----------------------------------------------------------------------------------------------


async def bound_round(peer: Peer, scenarios: Sequence[Scenario]) -> list[Result]:
    """Try every scenario that is not about the connecting side."""
    chosen = [scenario for scenario in scenarios if scenario.role != "connecting"]
    _, results = await run(chosen, peer.endpoint, timing=TIMING, connect_timeout=30, jobs=JOBS)
    return results


async def connecting_round(peer: Peer, scenarios: Sequence[Scenario]) -> list[Result]:
    """Try every scenario that is not about the binding side."""
    chosen = [scenario for scenario in scenarios if scenario.role != "binding"]
    found: list[Result] = []

    async def share(part: Sequence[Scenario], endpoint: str, on_endpoint: Callable[[str], None]) -> None:
        _, results = await run(
            part, endpoint, listen=True, timing=TIMING, connect_timeout=30, on_endpoint=on_endpoint
        )
        found.extend(results)

    # Every scenario binds again, and nobody takes the path meanwhile, as others may take a port.
    with tempfile.TemporaryDirectory(prefix="rounds-") as folder:
        async with trio.open_nursery() as nursery:
            for first in range(SHARES):
                nursery.start_soon(share, chosen[first::SHARES], f"ipc://{folder}/{first}", peer.connect)
    return found


def try_rounds(rounds: int, scenarios: Sequence[Scenario]) -> collections.Counter[str]:
    """Try so many rounds, and return how often each scenario failed, by role and name."""
    failures: collections.Counter[str] = collections.Counter()
    passed = 0
    began = time.monotonic()
    for number in range(1, rounds + 1):
        for role, one_round in (("binding", bound_round), ("connecting", connecting_round)):
            with Peer() as peer:
                results = trio.run(functools.partial(one_round, peer, scenarios))
            passed += sum(result.outcome == PASSED for result in results)
            for result in results:
                if result.outcome == FAILED:
                    name = f"{role} {result.scenario.id}"
                    failures[name] += 1
                    say(
                        f"round {number}: {name}, step {result.step}: expected {result.expected}, came {result.came}"
                    )
        if number % 10 == 0 or number == rounds:
            minutes = (time.monotonic() - began) / 60
            say(f"{number} rounds in {minutes:.1f} min: {passed} passed, {failures.total()} failed")
    return failures


def _count_for_ever() -> None:
    number = 0
    while True:
        number += 1


@contextmanager
def busy_cores() -> Iterator[None]:
    """Give every core something else to do."""
    others = [
        multiprocessing.Process(target=_count_for_ever, daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def main() -> int:
    """Run it; returns how many scenarios failed, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.rounds")
    parser.add_argument(
        "--rounds", type=int, default=200, help="how often every scenario is tried (%(default)s)"
    )
    parser.add_argument("--busy", action="store_true", help="with every core loaded")
    parser.add_argument("--serve", action="store_true", help="be the peer")
    options = parser.parse_args()
    if options.serve:
        trio.run(serve)
        return 0
    scenarios = list(SCENARIOS.values())
    if options.busy:
        with busy_cores():
            failures = try_rounds(options.rounds, scenarios)
    else:
        failures = try_rounds(options.rounds, scenarios)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
