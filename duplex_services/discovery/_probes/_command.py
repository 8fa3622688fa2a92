"""Checking by a program, which only the registrant of an instance runs."""

from __future__ import annotations

import shlex
import subprocess

import trio

from duplex_services.discovery._model import Check, Health
from duplex_services.discovery._rules._monitor import Result


async def probe(check: Check, target: str) -> Result:
    """Run a command line, without a shell: 0 is passing, 1 a warning, all else critical. What it prints is the note."""
    words = shlex.split(target)
    if not words:
        raise ValueError("the command is empty")
    try:
        done = await trio.run_process(
            words, capture_stdout=True, stderr=subprocess.STDOUT, check=False, stdin=b""
        )
    except OSError as error:
        return Result("critical", f"{words[0]}: {error.strerror}")
    codes: dict[int, Health] = {0: "passing", 1: "warning"}
    said = done.stdout.decode(errors="replace").strip()
    return Result(codes.get(done.returncode, "critical"), said or f"{words[0]} ended with {done.returncode}")
