"""One attack: a target, an honest client and an attacker, each a process of its own, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.engine.helpers import ROOT, process

MB: Final = 1_000_000
#: What the honest client has to bear: so many times its quiet p99, or so many seconds if that is more.
TIMES: Final = 5
SECONDS: Final = 0.05
#: By how much the target may grow. What is sent and not read is 16 MiB twice by default; what Python, ZeroMQ and
#: the C library keep for it is as much again.
GROWTH: Final = 80 * MB
#: Kinds whose memory another limit bounds: Limits.max_buffered, and the windows of twenty links; and Limits.max_handlers, which
#: thousands of streams in a mixture of five kinds are under, too.
MORE_GROWTH: Final = {
    "uploads": (256 + 20 * 16 + 64) * 1024 * 1024,
    "handlers": 250 * MB,
    "mixture": 120 * MB,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of an attack. Bytes and seconds."""

    kind: str
    before: int
    peak: int
    quiet: float
    attacked: float
    calls: int
    failures: dict[str, int]
    is_alive: bool

    def problems(self, *, timed: bool = True) -> list[str]:
        """Return what was not borne."""
        found = []
        if not self.is_alive:
            found.append("the target is dead")
        if self.failures:
            found.append(f"calls of the honest client failed: {self.failures}")
        if self.peak - self.before > MORE_GROWTH.get(self.kind, GROWTH):
            found.append(f"the target grew by {(self.peak - self.before) / MB:.0f} MB")
        if timed and self.attacked > max(TIMES * self.quiet, SECONDS):
            found.append(f"p99 of the honest client was {1000 * self.attacked:.0f} ms")
        return found


def attack(kind: str, seconds: float, *, first: bool = False) -> Outcome:
    """Attack for so long.

    Args:
        kind: how.
        seconds: for how long.
        first: the target and the honest client go before whatever else runs on this machine, the attacker included. What
            the client sees is then the target's doing, and not that of the kernel, which has more processes to run than
            cores. Needs the right to set real-time priorities.
    """
    with (
        process("tests.attacks.target", "tcp://127.0.0.1:*") as (target, endpoint),
        _probe(endpoint) as probe,
    ):
        if first:
            _put_first(target.pid, 1)
            _put_first(probe.pid, 2)
        _ask(probe, 0.3)  # what is done once is done
        quiet = _ask(probe, seconds / 2)
        before = _peak(target.pid)
        command = [sys.executable, "-m", "tests.attacks.attacker", kind, endpoint, str(seconds + 0.5)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as attacker:
            assert attacker.stdout is not None
            attacker.stdout.readline()  # it begins now, however long Python took to start
            attacked = _ask(probe, seconds)
            peak = _peak(target.pid)
            is_alive = target.poll() is None
            attacker.kill()
            target.kill()
    return Outcome(
        kind,
        before,
        peak,
        quiet["p99"],
        attacked["p99"],
        attacked["calls"],
        attacked["failures"],
        is_alive,
    )


def _put_first(pid: int, priority: int) -> None:
    """Let a process run whenever it can, and the threads that it starts."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))


@contextlib.contextmanager
def _probe(endpoint: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.attacks.probe", endpoint]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as probe:
        try:
            yield probe
        finally:
            assert probe.stdin is not None
            probe.stdin.close()


def _ask(probe: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    assert probe.stdin is not None
    assert probe.stdout is not None
    probe.stdin.write(f"{seconds}\n")
    probe.stdin.flush()
    answer: dict[str, Any] = json.loads(probe.stdout.readline())
    return answer


def _peak(pid: int) -> int:
    """Return the most bytes that a process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
