"""How long it takes to come up: to import, to serve a first call, and to make one call from a shell."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Final

from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL

_TIMES: Final = 3


def _milliseconds(*command: str) -> float:
    """Run a command some times, and return the median of how long it took."""
    laps = []
    for _ in range(_TIMES):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        laps.append(time.perf_counter() - begin)
    return statistics.median(laps) * 1e3


async def _startup(session: Session) -> dict[str, float]:
    nothing = _milliseconds(sys.executable, "-c", "pass")
    imported = _milliseconds(sys.executable, "-c", f"import {session.peer.imports}")
    command = [sys.executable, "-m", "benchmarks.peers", "serve", session.location]
    begin = time.perf_counter()
    # Nothing else goes on in this process, so it may block.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            async with session.peer.connect(address) as client:
                await client.unary(SMALL)
            answered = time.perf_counter() - begin
        finally:
            server.terminate()
    return {"import": imported - nothing, "served": answered * 1e3}


async def _command(session: Session) -> dict[str, float]:
    call = [session.address, "tasks.echo", '{"id": 1234567, "ok": true}']
    environment = [sys.executable, "-m", "duplex"]
    return {
        "call": _milliseconds(*environment, "call", *call),
        "help": _milliseconds(*environment, "--help"),
    }


SCENARIOS: Final = (
    Scenario(
        "startup",
        "coming up",
        {
            "import": Figure("importing the library, beyond what Python itself takes", "ms", Better.LOWER),
            "served": Figure("from starting a server's process to its first answer", "ms", Better.LOWER),
        },
        _startup,
        frozenset({"unary"}),
        extra=30,
    ),
    Scenario(
        "cli",
        "one call from a shell: the process, the link, the call",
        {
            "call": Figure("duplex call", "ms", Better.LOWER),
            "help": Figure("duplex --help", "ms", Better.LOWER),
        },
        _command,
        frozenset({"cli"}),
        extra=30,
    ),
)
