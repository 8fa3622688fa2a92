"""A handler blocks its event loop: the peer is slow, and must not be taken for lost."""

from __future__ import annotations

import time
from typing import Final

import trio

from tests.faults.checks import check_growth, check_untouched, prepare
from tests.faults.loads import KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Stage

#: MiB by which a side may grow, at most, while the other is blocked: what the link's window lets wait.
WAITING: Final = 64.0
#: Items of each stream, a message each: together more than libzmq by default takes from a connection that nobody
#: reads, and the more so as streams go on for as long as the loop is blocked.
LENGTH: Final = 1500


async def blocked(
    side: str, seconds: float, keepalive: tuple[float, float], *, tasks: int = 3, flood: int = 0
) -> Report:
    """Block one side's event loop for longer than ``timeout``, under calls of every kind.

    No call fails, the link is the one that there was, and the other side's statistics tell the delay.

    Args:
        side: whose event loop.
        seconds: for how long.
        keepalive: how links are watched.
        tasks: tasks for each kind of call.
        flood: notifications that the other side sends meanwhile: many times what libzmq takes from a connection
            whose messages nobody reads.
    """
    fault = f"event loop of the {side} blocked for {seconds:g} s, timeout {keepalive[1]:g} s"
    report = Report(fault + (f", under {flood:,} notifications" if flood else ""))
    async with Stage(keepalive) as stage:
        server, client, _ = await stage.pair()
        await prepare(report, server, client)
        victim, other = (server, client) if side == "server" else (client, server)
        await victim.ask("flood_begin", count=flood)
        within = seconds + 4 * PATIENCE
        await client.ask("load", kinds=list(KINDS), tasks=tasks, length=LENGTH, times=10_000)
        await server.ask("wait_handlers", count=tasks)

        async with trio.open_nursery() as nursery:
            began = time.monotonic()
            if side == "server":
                nursery.start_soon(lambda: client.ask("block_other", seconds=seconds, within=within))
            else:
                nursery.start_soon(lambda: client.ask("block", seconds=seconds, within=within))
            if flood:
                await trio.sleep(0.5)  # the loop has to be blocked, of which nothing can tell
                await other.ask("flood", way="notify", count=flood, tasks=4, within=within)
        report.check(time.monotonic() - began >= seconds, "the event loop was not blocked")

        # The links' statistics tell the delay with the first ping after it.
        await trio.sleep(2 * keepalive[0])
        await client.ask("stop", within=within)
        told = (await other.ask("links"))["worst_delay"]
        report.check(told >= seconds / 2, f"the statistics tell a delay of {told:.2f} s only")
        report.notes.append(f"delay told: {told:.2f} s")
        if flood:
            seen = await victim.ask("flood_seen")
            report.check(
                seen == {"came": flood, "twice": 0, "different": flood}, f"of {flood} notifications: {seen}"
            )
            check_growth(report, server, client, WAITING)
            await victim.ask("flood_begin", count=0)
        await check_untouched(report, stage, server, client)
    return report
