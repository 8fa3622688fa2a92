"""One side is killed, or stopped and continued, in the middle of calls of every kind."""

from __future__ import annotations

import signal
import time
from typing import Final

import trio

from tests.faults.ledger import CUT_SHORT
from tests.faults.loads import ENDLESS, KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Child, Stage, run_load

#: How links are watched in these faults, so that each takes seconds: interval and timeout.
KEEPALIVE: Final = (0.4, 1.2)
#: Seconds that a busy machine may take beyond what is promised.
SLACK: Final = 1.0
#: Seconds within which a link is back once nothing prevents it. The longest pause between two attempts is 0.5.
BACK_WITHIN: Final = 3.0
#: Bytes of blocks that are sent without a copy.
_LARGE: Final = 128 * 1024
#: Seconds that calls run before they are hit.
_INTO_IT: Final = 0.3

SIDES: Final = ("server", "client")
SIGNALS: Final = (signal.SIGKILL, signal.SIGSTOP)


async def warm_up(client: Child) -> None:
    """Have every kind of call made, so that what is kept for good is there before memory is measured."""
    await run_load(client, list(KINDS), 8, length=20, times=5)
    # Buffers that are sent without a copy have a thread of pyzmq's own, with files of its own.
    await client.ask("slow_receive", size=_LARGE, pause=0, blocks=3)
    await client.ask("slow_send", size=_LARGE, pause=0, blocks=3)
    await client.ask("forget")


async def begin_endless(server: Child, client: Child, kinds: list[str], tasks: int) -> None:
    """Begin calls that only a fault ends, and short ones one after the other; return when all run."""
    await client.ask("load", kinds=kinds, tasks=tasks)
    if "unary" in kinds:
        await client.ask("load", kinds=["unary"], tasks=tasks, length=1, times=ENDLESS)
    await server.ask("wait_handlers", count=len(kinds) * tasks)
    await trio.sleep(_INTO_IT)  # the streams have to be in full flow, which nothing tells


async def check_lost_at_caller(report: Report, client: Child, since: float, bound: float) -> None:
    """Check that every call of a process has failed in time because its link was lost.

    Short calls may have had their answers in the process already when it was stopped; those that follow take the
    next link, and would go on for ever.
    """
    await client.ask("stop", within=bound + PATIENCE)
    failed = (await client.ask("outcomes"))["failed"]
    report.check(failed, "no call was hit")
    report.check_errors(failed, ("PeerLost",), cancelled_by="link")
    report.ended("the last call", max((f["ended_at"] for f in failed), default=since) - since, bound)


async def check_lost_at_handlers(report: Report, server: Child, since: float, bound: float) -> None:
    """Check that every handler, and the link, of a process has ended in time."""
    await server.ask("wait_idle", within=bound + PATIENCE)
    await server.ask("wait_links", count=0, within=bound + PATIENCE)
    seen = await server.ask("seen")
    links = await server.ask("links")
    report.ended("the last handler", seen["last_end"] - since, bound)
    report.ended("the link", links["lost_at"] - since, bound)
    wrong = [entry for entry in seen["ended"] if entry[1] not in CUT_SHORT]
    report.check(not wrong, f"handlers ended with {wrong}")
    # What the handlers called back had its outcome too.
    failed = (await server.ask("outcomes"))["failed"]
    report.check_errors(failed, ("PeerLost",), cancelled_by="link")


async def kill_or_stop(side: str, number: signal.Signals, kinds: list[str], tasks: int = 5) -> Report:
    """Harm one side, check the other, bring the first back and check both."""
    killed = number == signal.SIGKILL
    what = list(kinds)
    report = Report(f"{number.name} of the {side}, {'calls of all kinds' if len(what) > 1 else what[0]}")
    # The operating system ends the connections of a dead process at once.
    bound = SLACK if killed else KEEPALIVE[1] + SLACK
    async with Stage(KEEPALIVE) as stage:
        server, client, address = await stage.pair()
        await warm_up(client)
        for child in (server, client):
            await report.measure(child)
            await child.ask("forget")
        await begin_endless(server, client, kinds, tasks)

        victim = server if side == "server" else client
        since = time.monotonic()
        await victim.harm(number)
        if side == "server":
            await check_lost_at_caller(report, client, since, bound)
        else:
            await check_lost_at_handlers(report, server, since, bound)

        failed = []
        since = time.monotonic()
        if not killed:
            await victim.harm(signal.SIGCONT)
            if side == "server":
                await check_lost_at_handlers(report, server, since, bound)
            else:
                await check_lost_at_caller(report, client, since, bound)
        elif side == "server":
            server = await stage.actor("server")
            since = time.monotonic()
            await server.ask("bind", endpoint=address)
        else:
            client = await stage.actor("client")
            since = time.monotonic()
            await client.ask("connect", endpoint=address)
        await client.ask("wait_links", count=1)
        back = time.monotonic() - since
        report.check(back <= BACK_WITHIN, f"it took {back:.1f} s until there was a link again")
        report.notes.append(f"linked again after {back:.2f} s")

        # Whatever happened, calls work as before, and leave nothing.
        good = (await client.ask("outcomes"))["counts"]
        await run_load(client, list(KINDS), tasks, length=20, times=3)
        report.check((await client.ask("outcomes"))["counts"] != good, "no call was made afterwards")
        for child in (server, client):
            failed += await report.add_outcomes(child)
            await report.check_seen(child)
            if not (killed and child.name == side):
                await report.compare(child)
        report.check_executions(stage, failed)
    return report
