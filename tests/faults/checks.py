"""What all faults have in common: how they begin, and what is checked of every end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from tests.faults.ledger import CUT_SHORT
from tests.faults.loads import AT_ONCE, ENDLESS, KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Child, Stage, run_load

SIDES: Final = ("server", "client")
#: How links are watched in these faults, so that each takes seconds: interval and timeout.
KEEPALIVE: Final = (0.4, 1.2)
#: Seconds that a busy machine may take beyond what is promised.
SLACK: Final = 1.0
#: Bytes of blocks that are sent without a copy.
_LARGE: Final = 128 * 1024
#: Seconds that calls run before they are hit.
_INTO_IT: Final = 0.3


async def warm_up(client: Child) -> None:
    """Have every kind of call made, so that what is kept for good is there before memory is measured."""
    await run_load(client, list(KINDS), 8, length=20, times=5)
    # Buffers that are sent without a copy have a thread of pyzmq's own, with files of its own.
    await client.ask("slow_receive", size=_LARGE, pause=0, blocks=3)
    await client.ask("slow_send", size=_LARGE, pause=0, blocks=3)
    await client.ask("forget")


async def prepare(report: Report, server: Child, client: Child) -> None:
    """Warm both up, measure them, and begin to count."""
    await warm_up(client)
    for child in (server, client):
        await report.measure(child)
        await child.ask("forget")
        child.reset_peak()


async def begin_endless(server: Child, client: Child, kinds: list[str], tasks: int) -> None:
    """Begin calls that only a fault ends, and short ones one after the other; return when all run."""
    await client.ask("load", kinds=kinds, tasks=tasks)
    if "unary" in kinds:
        await client.ask("load", kinds=[AT_ONCE], tasks=tasks, times=ENDLESS)
    await server.ask("wait_handlers", count=len(kinds) * tasks)
    await trio.sleep(_INTO_IT)  # the streams have to be in full flow, which nothing tells


async def check_lost_at_caller(report: Report, client: Child, since: float, bound: float) -> None:
    """Check that every call of a process has failed in time because its link was lost.

    Short calls may have had their answers in the process already. Those that follow find no link and fail, or take
    the next one and would go on for ever.
    """
    await client.ask("stop", within=bound + PATIENCE)
    failed = (await client.ask("outcomes"))["failed"]
    report.check(failed, "no call was hit")
    hit = [f for f in failed if not (f["kind"] == AT_ONCE and f["may_have_executed"] is False)]
    report.check_errors(hit, ("PeerLost",), cancelled_by="link")
    report.ended("the last call", max((f["ended_at"] for f in failed), default=since) - since, bound)


async def check_lost_at_handlers(report: Report, server: Child, since: float, bound: float) -> None:
    """Check that every handler, and the link, of a process has ended in time."""
    await server.ask("wait_idle", within=bound + PATIENCE)
    await server.ask("wait_link_lost", since=since, within=bound + PATIENCE)
    seen = await server.ask("seen")
    links = await server.ask("links")
    report.ended("the last handler", seen["last_end"] - since, bound)
    report.ended("the link", links["lost_at"] - since, bound)
    wrong = [entry for entry in seen["ended"] if entry[1] not in CUT_SHORT]
    report.check(not wrong, f"handlers ended with {wrong}")
    # What the handlers called back had its outcome too.
    failed = (await server.ask("outcomes"))["failed"]
    report.check_errors(failed, ("PeerLost",), cancelled_by="link")


async def check_untouched(
    report: Report, stage: Stage, server: Child, client: Child, allowed: Sequence[str] = ()
) -> None:
    """Check that the fault cost no call and no link: the calls before, and some more, succeed on the one that there
    was, and nothing is left over.

    Args:
        report: where to note it.
        stage: the processes' files.
        server: one side.
        client: the other.
        allowed: errors that calls may have ended with nevertheless.
    """
    await run_load(client, list(KINDS), 3, length=20)
    failed: list[dict[str, Any]] = []
    for child in (server, client):
        failed += await report.add_outcomes(child)
        await report.check_seen(child)
        await report.compare(child)
        links = await child.ask("links")
        report.check(links["ever"] == 1, f"{child.name}: {links['ever']} links, not the one that there was")
    report.check_errors(failed, allowed)
    report.check_executions(stage, failed)


def check_growth(report: Report, server: Child, client: Child, most: float) -> None:
    """Check that neither side has grown by more than so many MiB at any time since it was measured."""
    for child in (server, client):
        grown = child.peak - report.before(child)
        report.notes.append(f"{child.name} grew by {grown:.1f} MiB meanwhile")
        report.check(grown <= most, f"{child.name} grew by {grown:.1f} MiB meanwhile, more than {most:g}")
