"""An implementation to try: our own peer, with limits so small that exceeding them costs nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

import duplex
from duplex.conformance import Result, Scenario, Timing, load, make_service, run
from tests.machine import within

#: Every scenario is possible with these.
LIMITS: Final = duplex.Limits(
    max_message=640 * 1024,
    max_attachments=4,
    max_commands=64,
    max_metadata=2048,
    max_channels=20,
    channel_window=8 * 1024,
    link_window=1024 * 1024,
)

SCENARIOS: Final = {scenario.id: scenario for scenario in load()}

#: Of a peer that is known not to answer sometimes.
IMPATIENT: Final = Timing(step=0.6, quiet=0.05)

#: What a machine that was busy gets as another chance.
PATIENT: Final = Timing(step=20.0, quiet=1.0)

#: Seconds of a quiet machine for what has to come; the scenarios at once take turns on the processor, too.
PATIENCE: Final = 10.0

#: Scenarios at once; more hide the time that is spent on waiting.
JOBS: Final = 32


def patient() -> Timing:
    """How long to wait on this machine; only briefly for what must not come: these peers share a process, and so a
    turn, with what waits."""
    return Timing(step=within(PATIENCE), quiet=0.05)


@contextlib.asynccontextmanager
async def bound_peer(*, limits: duplex.Limits = LIMITS) -> AsyncIterator[str]:
    """The endpoint of a peer that offers the service."""
    async with own_peer(limits=limits) as (_, endpoint):
        yield endpoint


@contextlib.asynccontextmanager
async def own_peer(*, limits: duplex.Limits) -> AsyncIterator[tuple[duplex.Peer, str]]:
    """A peer that offers the service, and its endpoint."""
    async with duplex.open_peer(services=[make_service()], limits=limits, name="our own") as peer:
        yield peer, await peer.bind("tcp://127.0.0.1:*")


async def connect_for_ever(endpoint: str) -> None:
    """Connect a peer that offers the service, and again whenever a link has ended."""
    reconnect = duplex.Reconnect(initial=0.01, maximum=0.05)
    async with duplex.open_peer(services=[make_service()], limits=LIMITS, reconnect=reconnect) as peer:
        peer.connect_soon(endpoint)
        while True:
            await trio.sleep(0.1)  # nothing tells of a link that is left because it was idle
            peer._inside.ports.wake()


async def results_of(
    endpoint: str,
    scenarios: list[Scenario],
    timing: Timing | None = None,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> dict[str, Result]:
    """Run scenarios and return the results by id."""
    _, results = await run(scenarios, endpoint, timing=timing or patient(), jobs=JOBS, on_result=on_result)
    return {result.scenario.id: result for result in results}
