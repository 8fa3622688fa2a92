"""What is told of a peer that was not heard: it is needed when nobody can look."""

from __future__ import annotations

import re
import time

import trio

import duplex
from tests.conformance.helpers import LIMITS, own_peer
from tests.conformance.situation import Standstill, situation


async def test_who_kept_the_event_loop() -> None:
    async def keep() -> None:
        await trio.lowlevel.checkpoint()
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        await trio.lowlevel.checkpoint()

    with Standstill() as standstill:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, name="the one that keeps it")
    assert standstill.longest >= 0.05
    assert re.fullmatch(
        r"the event loop was kept for [\d.]+ s at most, by the one that keeps it", str(standstill)
    )


async def test_how_far_a_peer_is() -> None:
    async with own_peer(limits=LIMITS) as (peer, endpoint), duplex.open_peer(name="caller") as caller:
        await caller.connect(endpoint)
        assert await caller.service("conformance").echo(1) == 1
        told = situation(peer)
    assert f"port {endpoint}: led by duplex worker, vacant: False, turn due: False, behind: 0" in told
    assert "link to caller: waiting: nothing" in told
    assert "task duplex worker waits in" in told
