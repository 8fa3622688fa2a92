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


def forget_peak(pid: int) -> None:
    """Have :func:`peak` count from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak(pid: int) -> float:
    """Return the KiB of memory that a process has had at most, all that it shares included (RSS)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1])
    raise ValueError(f"process {pid} tells no memory")


def resident(pid: int) -> float:
    """Return the KiB of memory that a process has, its share of what it shares with others (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise ValueError(f"process {pid} tells no memory")


async def _links(session: Session) -> dict[str, float]:
    server, client = session.server_pid, os.getpid()
    async with AsyncExitStack() as stack:
        await more_clients(session, stack, _FIRST)
        before, mine = resident(server), resident(client)
        await more_clients(session, stack, _LINKS)
        return {
            "link": (resident(server) - before) / _LINKS,
            "link-client": (resident(client) - mine) / _LINKS,
        }


async def _channels(session: Session) -> dict[str, float]:
    server, client = session.server_pid, os.getpid()
    hold = session.client.hold
    async with AsyncExitStack() as stack:
        await session.runtime.keep(stack, [hold] * _FIRST)
        before, mine = resident(server), resident(client)
        await session.runtime.keep(stack, [hold] * _CHANNELS)
        return {
            "channel": (resident(server) - before) / _CHANNELS,
            "channel-client": (resident(client) - mine) / _CHANNELS,
        }


SCENARIOS: Final = (
    Scenario(
        "memory",
        f"memory of {_LINKS} more idle links, for each of them",
        {
            "link": Figure("the server's, for an idle link", "KiB", Better.LOWER),
            "link-client": Figure("the client's, for an idle link", "KiB", Better.LOWER),
        },
        _links,
        frozenset({"unary", "links"}),
        extra=30,
    ),
    # In processes of its own: what links have left behind would be used again.
    Scenario(
        "memory-channels",
        f"memory of {_CHANNELS} more open channels, for each of them",
        {
            "channel": Figure("the server's, for an open channel", "KiB", Better.LOWER),
            "channel-client": Figure("the client's, for an open channel", "KiB", Better.LOWER),
        },
        _channels,
        frozenset({"unary", "channels"}),
        extra=30,
    ),
)
