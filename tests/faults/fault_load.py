"""Too much of a good thing: readers that do not keep up, floods of tiny messages, channels that are abandoned."""

from __future__ import annotations

import signal
import time
from typing import Final

import trio

from tests.faults.checks import KEEPALIVE, SLACK, check_growth, check_untouched, prepare, warm_up
from tests.faults.ledger import CUT_SHORT
from tests.faults.loads import KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Stage, run_load

KIB: Final = 1024
#: Bytes of the blocks that a slow reader gets.
BLOCK: Final = 4 * KIB
#: Seconds in which a slow reader takes one block.
SIP: Final = 0.01
#: MiB by which either side may grow while one does not keep up: a channel's window, on both sides and in between.
AHEAD: Final = 16.0
#: MiB by which a server may have grown after thousands of handlers at once have ended together: the allocator keeps
#: pages that it cannot give back, as many after twelve deaths as after four.
CROWDED: Final = 8.0
#: Seconds that a unary call may take on a link whose other channel is stuck in back-pressure: far less than the
#: reader takes for a window, and more than a busy machine adds.
LATENCY: Final = 1.5
#: The window of a channel, in bytes, by default.
WINDOW: Final = 1024 * KIB
#: MiB by which either side may grow during a flood: the windows of the link on the way, and workers.
FLOODED: Final = 48.0
#: Deaths of clients before memory is measured.
_FIRST: Final = 2


async def slow_reader(reader: str, seconds: float) -> Report:
    """One side sends blocks as fast as it can, the other takes one every 10 ms.

    The sender waits: neither side's memory grows beyond a window, and other calls on the link are as quick as ever.

    Args:
        reader: which side is slow: ``client`` reads a stream of results, ``server`` a stream of arguments.
        seconds: for how long.
    """
    report = Report(
        f"slow reader at the {reader}, {BLOCK // KIB} KiB every {1000 * SIP:g} ms for {seconds:g} s"
    )
    async with Stage(KEEPALIVE) as stage:
        server, client, _ = await stage.pair()
        await prepare(report, server, client)
        within = seconds + PATIENCE
        sent = taken = 0
        took: list[float] = []

        async def read() -> None:
            nonlocal sent, taken
            if reader == "client":
                blocks = round(seconds / SIP / 2)
                taken = await client.ask("slow_receive", size=BLOCK, pause=SIP, blocks=blocks, within=within)
                sent = (await server.ask("seen"))["poured"]
            else:
                sent = await client.ask("slow_send", size=BLOCK, pause=SIP, seconds=seconds, within=within)
                taken = (await server.ask("seen"))["sipped"]

        async def beat() -> None:
            nonlocal took
            took = await client.ask("beat", seconds=0.8 * seconds, pause=0.005, within=within)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(beat)
        ahead = (sent - taken) * BLOCK
        report.check(taken > 0, "nothing was read")
        report.check(ahead <= 2 * WINDOW, f"the sender was {ahead / KIB:.0f} KiB ahead")
        report.check(max(took) <= LATENCY, f"another call took {max(took):.2f} s")
        report.notes.append(f"sender {ahead // KIB} KiB ahead")
        report.notes.append(f"other calls: slowest of {len(took)} {1000 * max(took):.0f} ms")
        check_growth(report, server, client, AHEAD)
        await check_untouched(report, stage, server, client)
    return report


async def flood(way: str, caller: str, count: int) -> Report:
    """One side sends a great many tiny messages to the other: all come, once, and leave nothing.

    Args:
        way: ``notify``, ``unary``, ``send`` (a stream of arguments) or ``receive`` (a stream of results).
        caller: which side calls.
        count: how many messages.
    """
    names = {"notify": "notifications", "unary": "unary calls"}
    what = names.get(way, f"stream items to {way}")
    report = Report(f"flood of {count:,} {what}, called by the {caller}")
    async with Stage(KEEPALIVE) as stage:
        server, client, _ = await stage.pair()
        await warm_up(client)
        near, far = (client, server) if caller == "client" else (server, client)
        # What a flood keeps for good, such as idle workers, is there after a small one.
        await far.ask("flood_begin", count=1000)
        await near.ask("flood", way=way, count=1000, tasks=64, within=PATIENCE)
        for child in (server, client):
            await child.ask("forget")
            await report.measure(child)
        await far.ask("flood_begin", count=count)
        for child in (server, client):
            child.reset_peak()
        result = await near.ask("flood", way=way, count=count, tasks=64, within=600)
        if way == "receive":
            report.check(result["came"] == count, f"{result['came']} of {count} came")
        else:
            seen = await far.ask("flood_seen")
            report.check(seen == {"came": count, "twice": 0, "different": count}, f"of {count} came {seen}")
        report.notes.append(f"{count / result['seconds']:,.0f} a second")
        check_growth(report, server, client, FLOODED)
        await far.ask("flood_begin", count=0)
        await check_untouched(report, stage, server, client)
        # A stream is one call, and what the other ways send are as many.
        if way in names:
            report.calls += count
            report.outcomes["ok" if way == "unary" else "delivered"] += count
    return report


async def abandoned(count: int, tasks: int = 50) -> Report:
    """Open channels of every kind, and give each up at a random moment."""
    report = Report(f"{count:,} channels opened and abandoned at random moments")
    async with Stage(KEEPALIVE) as stage:
        server, client, _ = await stage.pair()
        await warm_up(client)
        await client.ask("abandon", count=500, tasks=tasks, seed=1, within=PATIENCE)
        for child in (server, client):
            await child.ask("forget")
            await report.measure(child)
        counts = await client.ask("abandon", count=count, tasks=tasks, seed=2, within=600)
        report.check(counts["cancelled"] > count / 4, f"most channels were not abandoned: {counts}")
        await server.ask("wait_idle")
        seen = await server.ask("seen")
        report.notes.append(f"{sum(n for *_, n in seen['ended']):,} handlers ran")
        wrong = [entry for entry in seen["ended"] if entry[1] not in CUT_SHORT]
        report.check(not wrong, f"handlers ended with {wrong}")
        # Where time runs out, the other side may say so before this one's scope does.
        await check_untouched(report, stage, server, client, allowed=("DeadlineExceeded",))
    return report


async def abandoned_by_death(count: int, rounds: int) -> Report:
    """Clients open channels, and are killed with all of them open."""
    report = Report(f"{count * rounds:,} channels abandoned by the death of {rounds} clients", growth=CROWDED)
    async with Stage(KEEPALIVE) as stage:
        server, client, address = await stage.pair()
        await warm_up(client)
        for turn in range(-_FIRST, rounds):
            if turn == 0:
                # What so many handlers at once keep for good, such as idle workers, is there by now.
                await report.measure(server)
            victim = await stage.actor(f"client {turn + _FIRST}")
            await victim.ask("connect", endpoint=address)
            await victim.ask("hold", count=count)
            await server.ask("wait_handlers", count=count, within=2 * PATIENCE)
            await server.ask("forget")
            since = time.monotonic()
            await victim.harm(signal.SIGKILL)
            await server.ask("wait_idle", within=2 * PATIENCE)
            await server.ask("wait_links", count=1)
            seen = await report.check_seen(server)
            ended = sum(n for *_, n in seen["ended"])
            report.check(ended == count, f"{ended} handlers of {count} ended")
            report.ended("the last handler", seen["last_end"] - since, SLACK + count / 1000)
            if turn >= 0:
                report.calls += count
                for _, how, number in seen["ended"]:
                    report.outcomes[f"handler ended: {how}"] += number
        await client.ask("forget")
        await run_load(client, list(KINDS), 5, length=20)
        report.check(not await report.add_outcomes(client), "calls of another client fail afterwards")
        await report.compare(server)
        report.check_executions(stage)
    return report
