"""The network between the two sides is slow, loses packets, or is cut, in both directions or in one."""

from __future__ import annotations

import time
from typing import Final

import trio

from tests.faults.checks import (
    KEEPALIVE,
    SLACK,
    begin_endless,
    check_lost_at_caller,
    check_lost_at_handlers,
    check_untouched,
    prepare,
)
from tests.faults.loads import KINDS
from tests.faults.netns import ENDPOINT, network
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Stage, run_load
from tests.machine import within

#: Seconds within which a link is back after the network is: a packet of an attempt that was made meanwhile may
#: have been put off by TCP for about as long as the cut lasted.
BACK_WITHIN: Final = 8.0
#: A wire that loses packets makes TCP repeat them, later each time, so a link is watched with more patience.
PATIENT: Final = (1.0, 6.0)
#: A ping only now and then, and hardly longer until the peer is lost: what counts is ``timeout``.
SPARING: Final = (2.0, 2.5)


async def cut(ways: tuple[str, ...], keepalive: tuple[float, float] = KEEPALIVE, tasks: int = 3) -> Report:
    """Cut the network in some directions until both sides have noticed, then mend it.

    Both ends must notice within ``timeout``, also when only one direction is cut: the end that hears nothing
    gives up by itself; the other still hears, but gets no answers.
    """
    where = " and ".join({"ab": "server to client", "ba": "client to server"}[way] for way in ways)
    report = Report(f"network cut {where}, pings every {keepalive[0]:g} s, timeout {keepalive[1]:g} s")
    bound = keepalive[1] + within(SLACK)
    async with Stage(keepalive) as stage, network(stage) as net:
        server, client, _ = await stage.pair(ENDPOINT, namespaces=net.names)
        await prepare(report, server, client)
        await begin_endless(server, client, list(KINDS), tasks)
        since = time.monotonic()
        await net.set(cut=ways)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check_lost_at_caller, report, client, since, bound)
            nursery.start_soon(check_lost_at_handlers, report, server, since, bound)

        since = time.monotonic()
        await net.set()
        await client.ask("wait_links", count=1)
        back = time.monotonic() - since
        report.check(back <= within(BACK_WITHIN), f"it took {back:.1f} s until there was a link again")
        report.notes.append(f"linked again after {back:.2f} s")
        await run_load(client, list(KINDS), tasks, length=20, times=3)
        failed = []
        for child in (server, client):
            failed += await report.add_outcomes(child)
            await report.check_seen(child)
            await report.compare(child)
        report.check_executions(stage, failed)
    return report


async def bad_wire(
    fault: str,
    keepalive: tuple[float, float],
    *,
    tasks: int,
    length: int,
    times: int,
    least: float = 0.0,
    seed: int = 1,
    **wire: float,
) -> Report:
    """Make calls over a wire that is slow or loses packets: all succeed, on the same link.

    Args:
        fault: what to call it.
        keepalive: how links are watched.
        tasks: tasks for each kind of call.
        length: items of each stream.
        times: calls of each task.
        least: seconds that every call must take, so that the wire was as slow as was said.
        seed: which packets are lost.
        wire: see :meth:`tests.faults.wire.Wire.set`.
    """
    report = Report(fault)
    async with Stage(keepalive) as stage, network(stage, seed=seed) as net:
        server, client, _ = await stage.pair(ENDPOINT, namespaces=net.names)
        await prepare(report, server, client)
        await net.set(**wire)
        began = time.monotonic()
        await client.ask("load", kinds=list(KINDS), tasks=tasks, length=length, times=times)
        await client.ask("wait_load", within=4 * PATIENCE)
        took = time.monotonic() - began
        packets = await net.set()
        report.check(took >= times * least, f"all calls took {took:.2f} s: the wire was not slow")
        report.check(packets["lost"] > 0 or not wire.get("loss"), "no packet was lost")
        report.notes.append(f"{packets['carried']} packets carried, {packets['lost']} lost")
        slowest = (await client.ask("outcomes"))["slowest"]
        report.notes.append(f"slowest call {max(slowest.values()):.2f} s")
        await check_untouched(report, stage, server, client)
    return report


async def blip(seconds: float, tasks: int = 3) -> Report:
    """Cut the network for less than ``timeout``: nothing fails, and nothing comes twice."""
    report = Report(f"network cut both ways for {seconds:g} s, less than the timeout of {PATIENT[1]:g} s")
    async with Stage(PATIENT) as stage, network(stage) as net:
        server, client, _ = await stage.pair(ENDPOINT, namespaces=net.names)
        await prepare(report, server, client)
        await client.ask("load", kinds=list(KINDS), tasks=tasks, length=50, times=10_000)
        await server.ask("wait_handlers", count=tasks)
        await net.set(cut=("ab", "ba"))
        await trio.sleep(seconds)  # the length of the fault
        await net.set()
        await client.ask("stop")
        slowest = max((await client.ask("outcomes"))["slowest"].values())
        report.check(slowest >= seconds, f"no call met the fault: the slowest took {slowest:.2f} s")
        report.notes.append(f"slowest call {slowest:.2f} s")
        await check_untouched(report, stage, server, client)
    return report
