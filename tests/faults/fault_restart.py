"""The server goes away and comes back, again and again, while a client calls without a pause."""

from __future__ import annotations

import signal
import time
from typing import Final

from tests.faults.checks import KEEPALIVE, SLACK, warm_up
from tests.faults.loads import ENDLESS, KINDS
from tests.faults.report import Report
from tests.faults.stage import PATIENCE, Child, Stage, run_load
from tests.machine import within

#: Seconds within which a server that has come back answers. The longest pause between two attempts is 0.5.
BACK_WITHIN: Final = 3.0
#: Seconds that a call may take: it waits for a link, as long as no server is there, and then ends at once.
CONNECT_TIMEOUT: Final = 5.0
#: Restarts after which all that is ever kept has been, so that memory is measured from there.
_FIRST: Final = 2


async def restarts(times: int, tasks: int = 20) -> Report:
    """Restart the server, by turns with SIGKILL and with a goodbye.

    Every call ends with its value, ``PeerLost`` or ``Unavailable``, in time; after each restart calls succeed
    again; none is executed twice.
    """
    report = Report(f"server restarted {times} times under calls of {tasks} tasks")
    async with Stage(KEEPALIVE) as stage:
        server, client, address = await stage.pair(connect_timeout=CONNECT_TIMEOUT)
        await warm_up(client)
        failed = []
        slowest_back = 0.0
        await client.ask("forget")
        await begin(client, tasks)
        for turn in range(times):
            if turn == _FIRST:
                await client.ask("stop", within=CONNECT_TIMEOUT + PATIENCE)
                await report.measure(client)
                await begin(client, tasks)
            # Started before the other ends, so that a restart takes as long as Duplex needs, not Python.
            successor = await stage.actor("server")
            await _leave(server, kill=turn % 2 == 0)
            back = time.monotonic()
            await successor.ask("bind", endpoint=address)
            await client.ask("wait_answer_of", pid=successor.pid, within=4 * PATIENCE)
            back = time.monotonic() - back
            slowest_back = max(slowest_back, back)
            report.check(
                back <= within(BACK_WITHIN), f"restart {turn + 1}: {back:.1f} s until a call succeeded"
            )
            server = successor
            failed += await report.add_outcomes_so_far(client)
        await client.ask("stop", within=CONNECT_TIMEOUT + PATIENCE)
        failed += await report.add_outcomes(client)
        await client.ask("forget")
        await run_load(client, list(KINDS), 5, length=20)
        report.check(not await report.add_outcomes(client), "calls fail after the last restart")
        await report.check_seen(client)
        await report.compare(client)
        links = await client.ask("links")
        report.check(links["open"] == 1, f"{links['open']} links in the end")
        report.check(links["ever"] == times + 1, f"{links['ever']} links for {times + 1} servers")

        report.check_errors(failed, ("PeerLost", "Unavailable"), cancelled_by=None)
        longest = max((f["seconds"] for f in failed), default=0.0)
        report.ended("a call", longest, CONNECT_TIMEOUT + within(SLACK))
        report.check_executions(stage, failed)
        report.notes.append(f"slowest return {slowest_back:.2f} s after the bind")
    return report


async def _leave(server: Child, *, kill: bool) -> None:
    if kill:
        await server.harm(signal.SIGKILL)
    else:
        await server.end()


async def begin(client: Child, tasks: int) -> None:
    """Let tasks make one call after the other until they are stopped."""
    await client.ask("load", kinds=["unary"], tasks=tasks, length=1, times=ENDLESS, again=True)
