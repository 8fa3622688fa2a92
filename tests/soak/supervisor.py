"""Starts the processes of the soak, does them harm as planned, and watches what becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import trio

from tests.engine.hostile import BREAKS_LINK, GARBAGE, MUTATIONS, NO_GREETING
from tests.engine.raw import HELLO, RawDealer, batch
from tests.soak.plan import FIRST, Fault, plan

ROOT: Final = Path(__file__).resolve().parents[2]
SERVERS: Final = ("server-tcp", "server-ipc", "server-mortal")
CLIENTS: Final = ("client-steady", "client-mortal")
#: Those that are never killed, whose memory is watched.
LONG_LIVED: Final = ("server-tcp", "server-ipc", "client-steady")
#: Seconds that a process may take to start, or to end what it has begun.
PATIENCE: Final = 90.0
#: A process may have this many descriptors more at the end than at the beginning: pyzmq's thread that takes back
#: large buffers has seven, and begins with the first of those. A leak is one for every link, of which there are many.
SPARE_FDS: Final = 8
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def unexpected(log: str) -> list[str]:
    """Return the tracebacks in what a process said, each with the line before it, but for those of notifications:
    nobody else hears of them."""
    lines = ["", *log.splitlines()]
    found = []
    for number, line in enumerate(lines):
        if line.startswith("Traceback") and not lines[number - 1].startswith(
            "the handler of a notification to "
        ):
            end = number + 1
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            found.append("\n".join(lines[number - 1 : end + 1]))
    return found


class Child:
    """One process, and what it last said."""

    def __init__(self, name: str, errors: Path) -> None:
        self.name = name
        self.errors = errors
        self.process: trio.Process
        self.said: dict[str, dict[str, Any]] = {}
        self.starts = 0
        #: No orders, and no alarm when it is gone.
        self.down = False
        self._changed = trio.Event()

    def heard(self, message: dict[str, Any]) -> None:
        self.said[message["kind"]] = message
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, kind: str) -> dict[str, Any]:
        """Return what it says of a kind, once it has."""
        with trio.fail_after(PATIENCE):
            while kind not in self.said:
                await self._changed.wait()
        return self.said[kind]

    async def order(self, text: str) -> None:
        """Tell it what to do; if it is gone, nobody listens."""
        assert self.process.stdin is not None
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.process.stdin.send_all(text.encode() + b"\n")

    async def report(self) -> dict[str, Any]:
        """Ask for its counts."""
        self.said.pop("report", None)
        await self.order("report")
        return await self.wait("report")

    def resident(self) -> int:
        """Return its resident memory in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE


class Supervisor:
    """A run of the soak.

    Args:
        seed: of all its chances.
        duration: seconds of load.
        nursery: the parent of its tasks.
        directory: for the socket and for what the processes say on their standard error.
    """

    def __init__(self, seed: int, duration: float, nursery: trio.Nursery, directory: Path) -> None:
        self.seed = seed
        self.duration = duration
        self.random = random.Random(f"supervisor-{seed}")
        self.violations: list[str] = []
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[float, float]]] = {name: [] for name in LONG_LIVED}
        self.ends: dict[str, dict[str, Any]] = {}
        self.children = {name: Child(name, directory / f"{name}.log") for name in (*SERVERS, *CLIENTS)}
        self.endpoints = dict.fromkeys(SERVERS, "tcp://127.0.0.1:*")
        self.endpoints["server-ipc"] = f"ipc://{directory}/soak"
        self._nursery = nursery

    # -- processes ---------------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a process, or start it again where it was."""
        child = self.children[name]
        child.said.clear()
        child.starts += 1
        role = "server" if name in SERVERS else "client"
        endpoints = [self.endpoints[name]] if role == "server" else list(self.endpoints.values())
        seed = f"{self.seed}-{name}-{child.starts}"
        command = [sys.executable, "-m", "tests.soak.process", role, name, seed, *endpoints]
        with child.errors.open("a") as errors:
            child.process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT
            )
        child.down = False
        self._nursery.start_soon(self._listen, child, child.process)
        ready = await child.wait("ready")
        if role == "server":
            self.endpoints[name] = ready["endpoint"]

    async def _listen(self, child: Child, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["kind"] == "violation":
                    self.violations.append(f"{child.name}: {message['text']}")
                else:
                    child.heard(message)
        await process.wait()
        if process is child.process and not child.down:
            self.violations.append(f"{child.name} ended by itself with {process.returncode}")

    # -- harm --------------------------------------------------------------------------------------------

    async def harm(self, started: float) -> None:
        """Do everything that is planned."""
        for fault in plan(self.seed, self.duration):
            await trio.sleep_until(started + fault.at)
            child = self.children[fault.target]
            if not child.down and "ready" in child.said:
                self.faults[fault.kind] += 1
                self._nursery.start_soon(getattr(self, f"_{fault.kind}"), child, fault)

    async def _kill(self, child: Child, fault: Fault) -> None:
        child.down = True
        child.process.kill()
        await child.process.wait()
        await trio.sleep(fault.seconds)
        await self.start(child.name)

    async def _stop(self, child: Child, fault: Fault) -> None:
        process = child.process
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(fault.seconds)
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)

    async def _close(self, child: Child, _fault: Fault) -> None:
        await child.order("close")

    async def _block(self, child: Child, fault: Fault) -> None:
        await child.order(f"block {fault.seconds}")

    async def _garbage(self, child: Child, _fault: Fault) -> None:
        """Connect, some with a greeting and some without, and send what no peer should."""
        endpoint = self.endpoints[child.name]
        for _ in range(5):
            with RawDealer(endpoint) as dealer:
                if self.random.random() < 0.5:
                    dealer.send(batch(HELLO))
                    frames = self.random.choice([*BREAKS_LINK.values(), *MUTATIONS.values()])
                else:
                    frames = self.random.choice([*GARBAGE.values(), *NO_GREETING.values()])
                dealer.send(*frames)
                await trio.sleep(0.05)  # time for it to get there
        if endpoint.startswith("tcp://"):
            host, port = endpoint.removeprefix("tcp://").split(":")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as raw:
                raw.sendall(self.random.randbytes(300))
                # Time for it to get there: nobody says whether it did.
                await trio.sleep(0.05)

    # -- the run -----------------------------------------------------------------------------------------

    async def watch(self, started: float) -> None:
        """Sample the memory of those that live all along, every second."""
        while True:
            for name, samples in self.samples.items():
                samples.append((trio.current_time() - started, self.children[name].resident()))
            await trio.sleep(min(1.0, self.duration / 20))

    async def run(self) -> None:
        """Start, harm, finish and take stock."""
        for names in (SERVERS, CLIENTS):
            async with trio.open_nursery() as starting:
                for name in names:
                    starting.start_soon(self.start, name)
        started = trio.current_time()
        async with trio.open_nursery() as watching:
            watching.start_soon(self.watch, started)
            await trio.sleep(self.duration * FIRST / 2)
            before = {name: await self.children[name].report() for name in LONG_LIVED}
            await self.harm(started)
            await trio.sleep_until(started + self.duration)
            watching.cancel_scope.cancel()
        for name in CLIENTS:
            child = self.children[name]
            await child.wait("ready")
            await child.order("finish")
        for name in CLIENTS:
            self.counts.update((await self.children[name].wait("quiet"))["counts"])
        for name in (*SERVERS, *CLIENTS):
            await self._take_stock(name, before.get(name))
        for child in self.children.values():
            child.down = True
            assert child.process.stdin is not None
            await child.process.stdin.aclose()
            with trio.fail_after(PATIENCE):
                await child.process.wait()
            self.violations += [f"{child.name} said: {text}" for text in unexpected(child.errors.read_text())]

    async def _take_stock(self, name: str, before: dict[str, Any] | None) -> None:
        """Wait until a process is as it was at the beginning, and say what is not."""
        links = len(CLIENTS) if name in SERVERS else len(SERVERS)
        problems: list[str] = []
        end: dict[str, Any] = {}
        with trio.move_on_after(PATIENCE / 3):
            while True:
                end = await self.children[name].report()
                wanted = {"links": links, "channels": 0, "held": 0, "tasks": 0}
                problems = [
                    f"{end[key]} {key}, not {value}" for key, value in wanted.items() if end[key] != value
                ]
                if before is not None and end["fds"] > before["fds"] + SPARE_FDS:
                    problems.append(f"{end['fds']} descriptors, {before['fds']} at the beginning")
                if not problems:
                    break
                # A pause between two questions to another process, which has no way to tell by itself.
                await trio.sleep(0.1)
        self.ends[name] = {"before": before, "after": end}
        self.violations += [f"{name} has in the end {problem}" for problem in problems]
        self.violations += [f"{name} was told twice: {twice}" for twice in end.get("twice", [])]


@contextlib.asynccontextmanager
async def supervise(seed: int, duration: float) -> AsyncIterator[Supervisor]:
    """Make a supervisor; in the end no process is left, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(seed, duration, nursery, Path(directory))
            try:
                yield supervisor
            finally:
                for child in supervisor.children.values():
                    child.down = True
                    if hasattr(child, "process") and child.process.returncode is None:
                        child.process.kill()
                nursery.cancel_scope.cancel()
