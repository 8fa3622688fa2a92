"""Runs the peers: two processes for each figure, one peer after the other, everything again per repeat."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import IO, Final, final

import trio

from benchmarks._model import Scenario
from benchmarks._results import Failure, Outcome, Results
from benchmarks.peers import Entry
from benchmarks.scenarios import SCENARIOS

#: Where the packages ``benchmarks`` and ``tests`` are.
ROOT: Final = Path(__file__).resolve().parents[1]
#: Seconds that a server may take to announce its address.
START_TIMEOUT: Final = 30.0
#: Seconds that a client may take beyond what it measures.
EXTRA: Final = 30.0
#: Seconds between asking a process to end and ending it.
_GRACE: Final = 2.0
#: Characters of a process's standard error that a failure quotes: the end of it, which says what happened.
_QUOTED: Final = 2000


class PeerFailedError(Exception):
    """A figure could not be had.

    Attributes:
        stderr: the end of what the peer's processes wrote there.
    """

    def __init__(self, what: str, stderr: str) -> None:
        super().__init__(what)
        self.stderr = stderr


@final
class _Child:
    """One process of a peer."""

    def __init__(self, process: trio.Process, errors: IO[bytes]) -> None:
        self._errors = errors
        self.process = process

    async def line(self) -> str | None:
        """Return the line that the process prints, or ``None`` if it ends without one."""
        assert self.process.stdout is not None
        received = b""
        while not received.endswith(b"\n"):
            more = await self.process.stdout.receive_some()
            if not more:
                await self.process.wait()
                return None
            received += more
        return received.decode().strip()

    def stderr(self) -> str:
        """Return the end of what the process has written there so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-_QUOTED:]


@contextlib.asynccontextmanager
async def _child(*arguments: str) -> AsyncIterator[_Child]:
    """Start ``python -m benchmarks.peers``; leaving the block ends the process, whatever happens.

    Should this process be killed, the child sees the end of its standard input and ends by itself.
    """
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=errors)
        try:
            yield _Child(process, errors)
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(_GRACE):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                for stream in (process.stdin, process.stdout):
                    assert stream is not None
                    await stream.aclose()


async def measure(
    entry: Entry,
    scenario: str,
    seconds: float,
    *,
    pin: bool = False,
    start_timeout: float = START_TIMEOUT,
    extra: float = EXTRA,
) -> Outcome:
    """Start a peer's server and client, and return what one scenario gives.

    Args:
        entry: the peer.
        scenario: a key of ``SCENARIOS``.
        seconds: how long the client measures one figure.
        pin: whether the server is tied to one core and the client to another.
        start_timeout: seconds that the server may take to announce its address.
        extra: seconds that the client may take beyond what the scenario is to take.

    Raises:
        PeerFailedError: one of the two ended too early, or nothing came in time.
    """
    cores = _cores() if pin else ((), ())
    async with _child("serve", entry.location, *cores[0]) as server:
        address: str | None = None
        with trio.move_on_after(start_timeout) as start:
            address = await server.line()
        if address is None:
            how = (
                f"announced nothing within {start_timeout:g} s"
                if start.cancelled_caught
                else "ended at its start"
            )
            raise PeerFailedError(f"the server {how}", server.stderr())
        arguments = (entry.location, scenario, address, str(seconds), f"--server-pid={server.process.pid}")
        async with _child("run", *arguments, *cores[1]) as client:
            described = SCENARIOS[scenario]
            return await _outcome(server, client, seconds * described.parts + described.extra + extra)


def _cores() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments that tie the server to one core and the client to another."""
    server, client, *_ = sorted(os.sched_getaffinity(0)) * 2
    return (f"--core={server}",), (f"--core={client}",)


async def _outcome(server: _Child, client: _Child, timeout: float) -> Outcome:
    line: str | None = None
    server_ended = False

    async def watch_server() -> None:
        nonlocal server_ended
        await server.process.wait()
        server_ended = True
        nursery.cancel_scope.cancel()

    with trio.move_on_after(timeout) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_server)
            line = await client.line()
            nursery.cancel_scope.cancel()
    if line is not None:
        return Outcome(**json.loads(line))
    if limit.cancelled_caught:
        what = f"the client printed no figures within {timeout:g} s"
    elif server_ended:
        what = "the server ended while the client measured"
    else:
        what = "the client ended without figures"
    words = (child.stderr() for child in (server, client))
    raise PeerFailedError(what, "\n".join(filter(None, words)))


def plan(peers: Sequence[Entry], scenarios: Sequence[str], repeats: int) -> Iterator[tuple[str, Entry]]:
    """Give scenarios and peers in the order in which they are measured.

    What is compared stands side by side, so that a change in the machine's mood meets all peers; and
    each repeat begins with another peer, so that nobody is always first. A peer is not asked for what it
    cannot do.
    """
    for repeat in range(repeats):
        turn = repeat % len(peers)
        for scenario in scenarios:
            for entry in (*peers[turn:], *peers[:turn]):
                if can(entry, SCENARIOS[scenario]):
                    yield scenario, entry


def can(entry: Entry, scenario: Scenario) -> bool:
    """Whether a peer has what a scenario needs."""
    return scenario.needs <= entry.abilities


async def run_all(
    peers: Sequence[Entry],
    scenarios: Sequence[str],
    *,
    repeats: int,
    seconds: float,
    progress: Callable[[str], None],
    pin: bool = False,
) -> Results:
    """Measure everything. A peer that fails in a scenario is not asked for it again.

    Args:
        repeats: of everything.
        seconds: how long one figure is measured.
        progress: is told of every outcome.
        pin: see :func:`measure`.
    """
    results = Results([entry.name for entry in peers], list(scenarios))
    steps = list(plan(peers, scenarios, repeats))
    for number, (scenario, entry) in enumerate(steps, 1):
        if results.failure(entry.name, scenario) is not None:
            continue
        where = f"{number}/{len(steps)} {scenario} {entry.name}"
        try:
            outcome = await measure(entry, scenario, seconds, pin=pin)
        except PeerFailedError as error:
            results.failures.append(Failure(entry.name, scenario, str(error), error.stderr))
            progress(f"{where}: {error}")
        else:
            results.add(entry.name, scenario, outcome)
            progress(f"{where}: {_brief(scenario, outcome)}")
    return results


def _brief(scenario: str, outcome: Outcome) -> str:
    figures = SCENARIOS[scenario].figures
    shown = [f"{name} {value:,.1f} {figures[name].unit}" for name, value in list(outcome.figures.items())[:4]]
    return ", ".join(shown + ["…"] * (len(outcome.figures) > len(shown)))
