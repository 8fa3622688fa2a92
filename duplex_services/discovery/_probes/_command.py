"""Checking by a program, which only the registrant of an instance runs."""

from __future__ import annotations

import functools
import shlex
import subprocess
from typing import Final

import trio

from duplex_services.discovery._model import Check, Health
from duplex_services.discovery._rules._monitor import Result

#: Bytes of what the program prints that are kept; a note is shorter.
_MOST_OUTPUT: Final = 4096


async def probe(check: Check, target: str) -> Result:
    """Run a command line, without a shell: 0 is passing, 1 a warning, all else critical. What it prints is the note."""
    words = shlex.split(target)
    if not words:
        raise ValueError("the command is empty")
    run = functools.partial(
        trio.run_process, words, stdin=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    kept = bytearray()
    async with trio.open_nursery() as nursery:
        try:
            process: trio.Process = await nursery.start(run)
        except OSError as error:
            return Result("critical", f"{words[0]}: {error.strerror}")
        assert process.stdout is not None
        # All of it is read, or the program would wait; the beginning of it is kept.
        async for chunk in process.stdout:
            kept += chunk[: _MOST_OUTPUT - len(kept)]
    codes: dict[int, Health] = {0: "passing", 1: "warning"}
    said = kept.decode(errors="replace").strip()
    code = process.returncode
    assert code is not None
    return Result(codes.get(code, "critical"), said or f"{words[0]} ended with {code}")
