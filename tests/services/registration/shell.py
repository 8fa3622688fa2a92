"""``duplex registrator …`` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.machine import within

ROOT = Path(__file__).parents[3]


class Shell:
    """Runs the command with a state folder of its own; what it has started ends with the block.

    Args:
        folder: for its state.
        discovery: the endpoint of discovery.
    """

    def __init__(self, folder: Path, discovery: str = "") -> None:
        self._folder = folder
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("DUPLEX_", "DOCKER_"))},
            "HOME": str(folder),
            "DUPLEX_REGISTRATOR_STATE": str(folder / "state"),
            "DUPLEX_DISCOVERY": discovery or f"ipc://{folder}/none.sock",
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
            [sys.executable, "-m", "duplex", "registrator", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**self._environment, **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Run it to its end: exit code, what it has told, and what was wrong."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=within(30))
        return process.returncode, out, err
