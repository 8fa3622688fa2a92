"""The processes of a measurement: servers, those who register, those who watch; what they say and what they cost.

Times that processes tell each other are of ``time.monotonic()``, which is one clock on one machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, final

import psutil

_ROOT: Final = Path(__file__).parents[2]
#: Where the parts of a measurement are, to be run as processes.
_PARTS: Final = "benchmarks.services._parts"


@final
class Process:
    """A process that says lines and is told lines. It is killed when the block ends.

    Args:
        words: the command.
    """

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._told = psutil.Process(self._process.pid)

    @classmethod
    def part(cls, *words: object) -> Self:
        """Start a part of this package."""
        return cls(sys.executable, "-m", _PARTS, *map(str, words))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def line(self) -> str:
        """Wait for the next line that it says.

        Raises:
            RuntimeError: it has ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"process {self.pid} ended with {self._process.wait()}")
        return line.rstrip("\n")

    def tell(self, *words: object) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def cpu(self) -> float:
        """The seconds of processor that it has taken so far."""
        return _cpu(self._told)

    def memory(self) -> float:
        """Its memory in MB: what would be free without it."""
        return _memory(self._told)


@final
class Costs:
    """What a process of others takes, by its number.

    Args:
        pid: its number.
    """

    def __init__(self, pid: int) -> None:
        self._told = psutil.Process(pid)

    def cpu(self) -> float:
        """The seconds of processor that it has taken so far."""
        return _cpu(self._told)

    def memory(self) -> float:
        """Its memory in MB."""
        return _memory(self._told)


def _cpu(told: Any) -> float:
    times = told.cpu_times()
    return float(times.user + times.system)


def _memory(told: Any) -> float:
    return float(told.memory_full_info().uss) / 1e6


@final
class Discovery:
    """A server of discovery.

    Attributes:
        process: which it is.
        endpoint: where peers reach it.
        http: ``HOST:PORT`` of HTTP.
        dns: ``HOST:PORT`` of DNS.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.endpoint = process.line()
        self.http = process.line().removeprefix("http://")
        self.dns = process.line().removeprefix("dns://")


@contextlib.contextmanager
def discovery() -> Iterator[Discovery]:
    """Run a server of discovery over a file, as from a shell."""
    with tempfile.TemporaryDirectory(prefix="duplex-bench-") as folder:
        words = (
            "--state",
            folder,
            "--name",
            "bench",
            "--no-socket",
            "--no-checks",
            "--bind",
            "tcp://127.0.0.1:*",
        )
        fronts = ("--http", "127.0.0.1:0", "--dns", "127.0.0.1:0")
        with Process(sys.executable, "-m", "duplex", "discovery", "run", *words, *fronts) as process:
            yield Discovery(process)


@contextlib.contextmanager
def holding(
    server: Discovery, instances: int, holders: int, ttl: float
) -> Iterator[tuple[list[Process], float]]:
    """Have instances registered by processes; gives them, and the seconds that it took."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(Process.part("hold", server.endpoint, number, holders, instances, ttl))
            for number in range(min(holders, instances))
        ]
        begin = together(processes)
        yield processes, max(float(one.line().split()[1]) for one in processes) - begin


def together(processes: Sequence[Process]) -> float:
    """Have processes begin once all of them are ready, and return when that was."""
    for process in processes:
        process.line()
    begin = time.monotonic()
    for process in processes:
        process.tell("go")
    return begin
