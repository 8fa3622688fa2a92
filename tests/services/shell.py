"""``duplex …`` as a process, in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

from tests.machine import within

ROOT: Final = Path(__file__).parents[2]

#: Variables of whoever runs the tests that would change what is tested.
_FOREIGN: Final = ("DUPLEX_", "DOCKER_", "XDG_")


class Shell:
    """Runs a command with a state folder and a socket of its own; what it has started ends with the block.

    Args:
        folder: the home.
        words: that every command begins with, such as ``discovery``.
        discovery: the endpoint of discovery; a socket in the folder if it is empty.
    """

    def __init__(self, folder: Path, *words: str, discovery: str = "") -> None:
        self.folder = folder
        self.endpoint = discovery or f"ipc://{folder}/discovery.sock"
        self._words = words
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)},
            "HOME": str(folder),
            "COLUMNS": "200",
            "DUPLEX_DISCOVERY": self.endpoint,
            "DUPLEX_DISCOVERY_STATE": str(folder / "state"),
            "DUPLEX_REGISTRATOR_STATE": str(folder / "state"),
        }
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "duplex", *self._words, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**self._environment, **environment},
            # Where the tests run in the background of a shell it is ignored, and that is passed on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Run it to its end: exit code, what it has told, and what was wrong."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=within(30))
        return process.returncode, out, err

    def told(self, *words: str) -> Any:
        """Run a command that answers in JSON."""
        code, out, err = self.run(*words, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    def until(self, what: str, *words: str) -> str:
        """Run a command until its output has something."""
        until = time.monotonic() + within(20)
        while True:
            _, out, err = self.run(*words)
            if what in out:
                return out
            assert time.monotonic() < until, (out, err)


def serve_discovery(shell: Shell, *words: str) -> subprocess.Popen[str]:
    """Start a server of discovery in a shell of ``duplex discovery``, and return when it serves."""
    process = shell.start("run", "--no-socket", "--bind", shell.endpoint, *words)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == shell.endpoint, process.communicate()
    return process
