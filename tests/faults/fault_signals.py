"""One side is killed, or stopped and continued, in the middle of calls of every kind."""

from __future__ import annotations

import signal
import time
from typing import Final

from tests.faults.checks import (
    KEEPALIVE,
    SLACK,
    begin_endless,
    check_lost_at_caller,
    check_lost_at_handlers,
    prepare,
)
from tests.faults.loads import KINDS
from tests.faults.report import Report
from tests.faults.stage import Stage, run_load
from tests.machine import within

#: Seconds within which a link is back once nothing prevents it. The longest pause between two attempts is 0.5.
BACK_WITHIN: Final = 3.0
SIGNALS: Final = (signal.SIGKILL, signal.SIGSTOP)


async def kill_or_stop(side: str, number: signal.Signals, kinds: list[str], tasks: int = 5) -> Report:
    """Harm one side, check the other, bring the first back and check both."""
    killed = number == signal.SIGKILL
    what = list(kinds)
    report = Report(f"{number.name} of the {side}, {'calls of all kinds' if len(what) > 1 else what[0]}")
    # The operating system ends the connections of a dead process at once.
    bound = within(SLACK) + (0.0 if killed else KEEPALIVE[1])
    # A process that is stopped is given up by its silence: its host answers.
    async with Stage(KEEPALIVE, max_silence=KEEPALIVE[1]) as stage:
        server, client, address = await stage.pair()
        await prepare(report, server, client)
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
        report.check(back <= within(BACK_WITHIN), f"it took {back:.1f} s until there was a link again")
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
