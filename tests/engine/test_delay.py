"""A peer says how late its event loop runs, so that a busy one can be told from a lost one."""

from __future__ import annotations

import time

import duplex
from tests.engine.helpers import linked, until


async def test_other_side_learns_of_a_blocked_loop() -> None:
    keepalive = duplex.Keepalive(interval=0.05, timeout=30)
    service = duplex.Service("service")

    @service.rpc(inline=True)
    def block() -> None:
        time.sleep(0.3)  # blocks the event loop, which is the point

    async with linked(service, server={"keepalive": keepalive}) as pair:
        await pair.service("service").block()
        await until(lambda: (pair.link.statistics().remote_delay or 0) > 0.1)
        assert pair.link.is_open
        await until(lambda: (pair.link.statistics().remote_delay or 0) < 0.1)
