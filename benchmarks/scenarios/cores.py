"""Server and client on a core each, and both on one: what a second core is worth."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks.scenarios.throughput import calls_per_second

_IN_FLIGHT: Final = 64


async def _run(session: Session) -> dict[str, float]:
    # This process may be tied to a core already; the one that started it is not.
    cores = sorted(os.sched_getaffinity(os.getppid()))
    if len(cores) < 2:
        return {}

    async def rate() -> float:
        return await calls_per_second(session.runtime, session.client, _IN_FLIGHT, session.seconds)

    _pin(session.server_pid, cores[0])
    _pin(os.getpid(), cores[1])
    two = await rate()
    _pin(os.getpid(), cores[0])
    one = await rate()
    return {"two": two, "one": one}


def _pin(pid: int, core: int) -> None:
    for thread in _threads(pid):
        # A thread may have ended since.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {core})


def _threads(pid: int) -> Iterator[int]:
    return map(int, os.listdir(f"/proc/{pid}/task"))


SCENARIOS: Final = (
    Scenario(
        "cores",
        f"unary calls, {_IN_FLIGHT} in flight, the two processes tied to cores",
        {
            "two": Figure("server and client on a core each", "calls/s", Better.HIGHER),
            "one": Figure("server and client on the same core", "calls/s", Better.HIGHER),
        },
        _run,
        frozenset({"unary"}),
        parts=2,
        quick=False,
    ),
)
