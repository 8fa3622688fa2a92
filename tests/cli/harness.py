"""Running the command: as a process, as users do, or in this one, which is quicker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.machine import within

ROOT = Path(__file__).parents[2]
TARGETS = Path(__file__).parent / "targets"
CALC = ROOT / "examples" / "calc.py"

#: The command without what depends on where its script was installed.
COMMAND = (sys.executable, "-m", "duplex")

#: Seconds that anything here may take before it counts as hanging.
PATIENCE = 60


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """Return the variables of a terminal that can do colours, wherever the tests run."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "DUPLEX_DEBUG")}
    return {**kept, "TERM": "xterm-256color"}


class Command(subprocess.Popen[str]):
    """A command that runs. A test that fails does not wait for its end."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def start(*words: object, **options: Any) -> Command:
    """Start the command with pipes to all three of its streams, unless ``options`` say otherwise."""
    usual = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    return Command([*COMMAND, *map(str, words)], text=True, **{"env": environment(), **usual, **options})


def finish(process: subprocess.Popen[str], given: str | None = None) -> Result:
    """Write to the command's stdin, close it, and return what the command left when it has ended."""
    out, err = process.communicate(given, timeout=within(PATIENCE))
    return Result(process.returncode, out, err)


def run(*words: object, given: str | None = None) -> Result:
    """Run the command to its end."""
    with start(*words) as process:
        return finish(process, given)


class Server(NamedTuple):
    """A ``duplex serve`` that runs."""

    process: subprocess.Popen[str]
    endpoint: str

    @property
    def stdout(self) -> IO[str]:
        """What it prints."""
        assert self.process.stdout is not None
        return self.process.stdout

    def stop(self, number: int = signal.SIGTERM) -> Result:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return finish(self.process)


@contextmanager
def serving(target: object, *words: object, **options: Any) -> Iterator[Server]:
    """Serve a target for the time of a block; what it says on stderr shows up in the tests' own."""
    with start("serve", target, *words, **{"stderr": None, **options}) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            assert "://" in endpoint, f"no endpoint but {endpoint!r}"
            yield Server(process, endpoint)
        finally:
            process.kill()


def environment_without(prefix: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without the variables whose names begin with ``prefix``."""
    return {key: value for key, value in environment.items() if not key.startswith(prefix)}
