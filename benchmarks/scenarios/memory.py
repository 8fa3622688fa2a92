"""What an idle link and an open channel cost in memory, as the operating system counts it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks._payloads import SMALL

#: Links and channels that come first, so that pools and caches have been made before anything is counted.
_FIRST: Final = 50
_LINKS: Final = 300
_CHANNELS: Final = 500


def resident(pid: int) -> float:
    """Return the KiB of memory that a process has for itself."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise ValueError(f"process {pid} tells no memory")


async def _run(session: Session) -> dict[str, float]:
    server, client = session.server_pid, os.getpid()
    figures: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as stack:
        connect = session.peer.connect
        for _ in range(_FIRST):
            other = await stack.enter_async_context(connect(session.address))
            await other.unary(SMALL)
        before = resident(server)
        for _ in range(_LINKS):
            other = await stack.enter_async_context(connect(session.address))
            await other.unary(SMALL)
        figures["link"] = (resident(server) - before) / _LINKS
    if session.peer.channels:
        async with contextlib.AsyncExitStack() as stack:
            await session.client.hold(stack, _FIRST)
            before, mine = resident(server), resident(client)
            await session.client.hold(stack, _CHANNELS)
            figures["channel"] = (resident(server) - before) / _CHANNELS
            figures["channel-client"] = (resident(client) - mine) / _CHANNELS
    return figures


SCENARIOS: Final = (
    Scenario(
        "memory",
        f"memory of {_LINKS} more idle links and of {_CHANNELS} more open channels, for each of them",
        {
            "link": Figure("the server's, for an idle link", "KiB", Better.LOWER),
            "channel": Figure("the server's, for an open channel", "KiB", Better.LOWER),
            "channel-client": Figure("the client's, for an open channel", "KiB", Better.LOWER),
        },
        _run,
        frozenset({"unary", "links"}),
        extra=30,
    ),
)
