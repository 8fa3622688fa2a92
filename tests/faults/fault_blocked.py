"""A handler blocks its event loop: the peer is slow, and must not be taken for lost."""

from __future__ import annotations

import time
from typing import Final

import trio

from tests.faults.fault_signals import warm_up
from tests.faults.loads import KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Stage, run_load

#: MiB by which a side may grow, at most, while the other is blocked: what the link's window lets wait.
WAITING: Final = 64.0


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
        await warm_up(client)
        for child in (server, client):
            await report.measure(child)
            await child.ask("forget")
            child.reset_peak()
        victim, other = (server, client) if side == "server" else (client, server)
        await victim.ask("flood_begin", count=flood)
        within = seconds + 4 * PATIENCE
        await client.ask("load", kinds=list(KINDS), tasks=tasks, length=50, times=10_000)
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
        await run_load(client, list(KINDS), tasks, length=20)
        failed = []
        for child in (server, client):
            failed += await report.add_outcomes(child)
            await report.check_seen(child)
            links = await child.ask("links")
            report.check(
                links["ever"] == 1, f"{child.name}: {links['ever']} links, not the one that there was"
            )
        report.check(not failed, f"{len(failed)} calls failed: {failed[:2]}")
        told = (await other.ask("links"))["worst_delay"]
        report.check(told >= seconds / 2, f"the statistics tell a delay of {told:.2f} s only")
        report.notes.append(f"delay told: {told:.2f} s")
        if flood:
            seen = await victim.ask("flood_seen")
            report.check(
                seen == {"came": flood, "twice": 0, "different": flood}, f"of {flood} notifications: {seen}"
            )
            for child in (server, client):
                grown = child.peak - report.before(child)
                report.notes.append(f"{child.name} grew by {grown:.0f} MiB meanwhile")
                report.check(grown <= WAITING, f"{child.name} grew by {grown:.0f} MiB meanwhile")
            await victim.ask("flood_begin", count=0)
        for child in (server, client):
            await report.compare(child)
        report.check_executions(stage, failed)
    return report
