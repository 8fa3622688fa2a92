"""What an idle link and an open channel cost in memory, as the operating system counts it."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks._model import Better, Figure, Scenario, Session
from benchmarks.scenarios.links import more_clients

#: Links and channels that come first, so that pools and caches have been made before anything is counted.
_FIRST: Final = 50
_LINKS: Final = 300
_CHANNELS: Final = 500


def resident(pid: int) -> float:
    """Return the KiB of memory that a process has, its share of what it shares with others (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise ValueError(f"process {pid} tells no memory")


async def _run(session: Session) -> dict[str, float]:
    server, client = session.server_pid, os.getpid()
    figures: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        await more_clients(session, stack, _FIRST)
        before = resident(server)
        await more_clients(session, stack, _LINKS)
        figures["link"] = (resident(server) - before) / _LINKS
    if "channels" in session.abilities:
        async with AsyncExitStack() as stack:
            hold = session.client.hold
            await session.runtime.keep(stack, [hold] * _FIRST)
            before, mine = resident(server), resident(client)
            await session.runtime.keep(stack, [hold] * _CHANNELS)
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
