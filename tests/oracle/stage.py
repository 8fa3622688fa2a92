"""Starts the processes of the oracle, has them call each other, does them harm, and gives their journals to the judge.

Three of them, each of which serves and calls::

    steady ──proxy──▶ partner        neither is ever killed
       └─────proxy──▶ mortal         is killed, or leaves, and is started again at the same endpoint

Calls go both ways over every link. The proxies cut their connections and stand still, and carry bytes in pieces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from tests.engine.helpers import ROOT
from tests.machine import fail_after, within
from tests.oracle.journal import read
from tests.oracle.proxy import Proxy
from tests.oracle.verdict import Life, Verdict, judge
from tests.wires.orders import ORDERS

STEADY: Final = "steady"
PARTNER: Final = "partner"
MORTAL: Final = "mortal"
#: Of the calls that are asked for, so much of each hundred is made by these; the mortal makes calls all the while.
SHARE: Final = {STEADY: 60, PARTNER: 40}
WIRES: Final = ("plain", *ORDERS)

#: Where no port is given to whoever asks for any: a port there is still free when the mortal comes back to it, and while
#: it is away there is nobody else.
PORTS: Final = range(20_000, 30_000)

#: Seconds between two faults, from and to, and what may happen, with its weight.
PAUSE: Final = (0.2, 1.5)
FAULTS: Final = {"cut": 16, "stand still": 8, "stand still for long": 1, "kill": 3, "leave": 2}
#: Seconds that a network stands still: too short for anybody to notice, and longer than links last.
STANDS: Final = {"stand still": (0.05, 0.8), "stand still for long": (3.5, 5.0)}
#: Seconds that a process is away.
AWAY: Final = (0.05, 1.0)
#: Seconds that a process may take to start, and to end, on a quiet machine.
PATIENCE: Final = 60.0


@dataclasses.dataclass
class Report:
    """What came of a run."""

    seed: int
    made: int
    seconds: float
    verdict: Verdict
    faults: Counter[str]
    lives: int
    directory: Path


def _free_port() -> int:
    # Not by the seed: two runs at once would try the same ones.
    chance = random.SystemRandom()
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody is there
            return port


class Process:
    """One process of the oracle."""

    def __init__(self, name: str, others: list[str]) -> None:
        self.name = name
        self.others = others
        self.endpoint = "tcp://127.0.0.1:*"
        self.lives = 0
        self.killed: set[int] = set()
        self.made = 0
        self.heard: dict[str, dict[str, Any]] = {}
        self.is_down = True
        self.running: trio.Process
        self.changed = trio.Event()

    def journal(self, directory: Path, life: int) -> Path:
        """Where one of its lives is noted."""
        return directory / f"{self.name}-{life}.journal"

    def hear(self, message: dict[str, Any]) -> None:
        """Take what it tells."""
        self.heard[message["kind"]] = message
        self.changed.set()
        self.changed = trio.Event()

    async def wait(self, kind: str, seconds: float) -> dict[str, Any]:
        """Return what it tells of a kind, once it has; ``TooSlowError`` if it does not."""
        with fail_after(seconds):
            while kind not in self.heard:
                await self.changed.wait()
        return self.heard[kind]

    async def order(self, *words: Any) -> None:
        """Tell it what to do; if it is gone, nobody listens."""
        assert self.running.stdin is not None
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.running.stdin.send_all(json.dumps(words).encode() + b"\n")


class Stage:
    """A run.

    Args:
        operations: calls that steady and partner make together.
        seed: of what is left to chance.
        directory: for journals and for what the processes log.
        say: told of progress now and then.
    """

    def __init__(self, operations: int, seed: int, directory: Path, say: Callable[[str], None]) -> None:
        self.operations = operations
        self.seed = seed
        self.directory = directory
        self._say = say
        self._random = random.Random(f"stage {seed}")
        self._faults: Counter[str] = Counter()
        self._problems: list[str] = []
        self._processes = {
            STEADY: Process(STEADY, [PARTNER, MORTAL]),
            PARTNER: Process(PARTNER, [STEADY]),
            MORTAL: Process(MORTAL, [STEADY]),
        }
        self._proxies: list[Proxy] = []
        self._nursery: trio.Nursery

    async def run(self) -> Report:
        """Run, and judge."""
        started = trio.current_time()
        steady, partner, mortal = (self._processes[name] for name in (STEADY, PARTNER, MORTAL))
        mortal.endpoint = f"tcp://127.0.0.1:{_free_port()}"
        async with trio.open_nursery() as self._nursery:
            for process in (steady, partner, mortal):
                await self._start(process)
            for process in (partner, mortal):
                proxy = Proxy(int(process.endpoint.rpartition(":")[2]), f"{self.seed} {process.name}")
                await self._nursery.start(proxy.run)
                self._proxies.append(proxy)
                await steady.order("connect", f"tcp://127.0.0.1:{proxy.port}")
            async with trio.open_nursery() as trouble:
                trouble.start_soon(self._harm)
                trouble.start_soon(self._tell_progress, started)
                async with trio.open_nursery() as working:
                    for name, share in SHARE.items():
                        working.start_soon(self._work, self._processes[name], self.operations * share // 100)
                trouble.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await self._rest()
            self._nursery.cancel_scope.cancel()
        return self._report(trio.current_time() - started)

    # -- processes -----------------------------------------------------------------------------------------

    async def _start(self, process: Process) -> None:
        process.lives += 1
        process.heard.clear()
        life = f"{process.name}{process.lives}"
        given = {
            "service": process.name,
            "others": process.others,
            "life": life,
            "seed": f"{self.seed} {life}",
            "wire": self._random.choice(WIRES),
            "bind": process.endpoint,
            "journal": str(process.journal(self.directory, process.lives)),
        }
        command = [sys.executable, "-m", "tests.oracle.actor", json.dumps(given)]
        with (self.directory / f"{process.name}.log").open("a") as log:
            process.running = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        process.is_down = False
        self._nursery.start_soon(self._listen, process, process.running)
        ready = await process.wait("ready", PATIENCE)
        process.endpoint = ready["endpoint"]
        if process.name not in SHARE:
            await process.order("work", 10**9)

    async def _listen(self, process: Process, running: trio.Process) -> None:
        assert running.stdout is not None
        rest = b""
        async for data in running.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                process.hear(json.loads(line))
        await running.wait()
        if running is process.running and not process.is_down:
            self._problems.append(f"{process.name} ended by itself with {running.returncode}")
            # Nobody waits for what it would have told.
            process.hear({"kind": "done", "made": 0})
            process.hear({"kind": "resting", "left": [], "made": 0})

    async def _work(self, process: Process, count: int) -> None:
        await process.order("work", count)
        await process.wait("done", float("inf"))

    async def _rest(self) -> None:
        """Let everything come to its end, and have it told what is left."""
        for proxy in self._proxies:
            proxy.go_on()
        mortal = self._processes[MORTAL]
        if mortal.is_down:
            await self._start(mortal)
        for process in self._processes.values():
            await process.order("rest")
        for process in self._processes.values():
            try:
                resting = await process.wait("resting", 2 * PATIENCE)
            except trio.TooSlowError:
                self._problems.append(f"{process.name} does not come to rest")
                continue
            self._problems += [f"{process.name} has left over: {found}" for found in resting["left"]]
        for process in self._processes.values():
            process.is_down = True
            assert process.running.stdin is not None
            await process.running.stdin.aclose()
            with trio.move_on_after(within(PATIENCE)) as scope:
                await process.running.wait()
            if scope.cancelled_caught:
                self._problems.append(f"{process.name} does not end")
                process.running.kill()

    async def _tell_progress(self, started: float) -> None:
        while True:
            await trio.sleep(5)  # of interest to a human only
            made = sum(self._processes[name].heard.get("progress", {}).get("made", 0) for name in SHARE)
            faults = sum(self._faults.values())
            seconds = trio.current_time() - started
            self._say(f"{made} of {self.operations} calls, {faults} faults, {seconds:.0f} s")

    # -- harm ----------------------------------------------------------------------------------------------

    async def _harm(self) -> None:
        while True:
            await trio.sleep(self._random.uniform(*PAUSE))  # the network's own time
            (kind,) = self._random.choices(list(FAULTS), list(FAULTS.values()))
            self._faults[kind] += 1
            if kind == "cut":
                self._random.choice(self._proxies).cut()
            elif kind in STANDS:
                proxy = self._random.choice(self._proxies)
                proxy.stand_still()
                await trio.sleep(self._random.uniform(*STANDS[kind]))
                proxy.go_on()
            else:
                await self._restart(gracefully=kind == "leave")

    async def _restart(self, *, gracefully: bool) -> None:
        mortal = self._processes[MORTAL]
        mortal.is_down = True
        if gracefully:
            await mortal.order("leave")
            try:
                await mortal.wait("left", PATIENCE)
            except trio.TooSlowError:
                self._problems.append(f"{mortal.name} does not leave")
        else:
            mortal.killed.add(mortal.lives)
        mortal.running.send_signal(signal.SIGKILL)
        await mortal.running.wait()
        await trio.sleep(self._random.uniform(*AWAY))  # nobody is there
        await self._start(mortal)

    # -- judgement -----------------------------------------------------------------------------------------

    def _report(self, seconds: float) -> Report:
        lives = [
            Life(process.name, life in process.killed, read(process.journal(self.directory, life)))
            for process in self._processes.values()
            for life in range(1, process.lives + 1)
        ]
        verdict = judge(lives)
        verdict.violations = self._problems + self._tracebacks() + verdict.violations
        made = sum(self._processes[name].heard["resting"]["made"] for name in SHARE)
        return Report(self.seed, made, seconds, verdict, self._faults, len(lives), self.directory)

    def _tracebacks(self) -> list[str]:
        """What processes logged that only a bug can be."""
        return [
            f"{name} logged: {line}"
            for name in self._processes
            for line in (self.directory / f"{name}.log").read_text().splitlines()
            if "internal error" in line or "the link is closed" in line or "never awaited" in line
        ]
