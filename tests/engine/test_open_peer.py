"""What ``open_peer`` refuses, and a connect that is called off."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

import duplex


@pytest.mark.parametrize(
    "options",
    [
        {"services": duplex.Service("alone")},
        {"services": 5},
        {"limits": 5},
        {"keepalive": 3},
        {"connect_timeout": "x"},
        {"connect_timeout": -1},
        {"connect_timeout": math.nan},
        {"connect_timeout": True},
        {"max_threads": 0},
        {"max_threads": 1.5},
        {"max_threads": True},
        {"name": 5},
        {"stats": "no"},
        {"reflection": 0},
        {"debug": "yes"},
    ],
    ids=str,
)
async def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(duplex.ConfigurationError, match=next(iter(options))):
        async with duplex.open_peer(**options):
            pytest.fail("the peer opened")


async def test_disconnect_ends_a_connect_that_waits(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer, trio.open_nursery() as nursery:

        async def connect() -> None:
            with pytest.raises(duplex.ConnectError, match="disconnected while it connected"):
                await peer.connect("memory://nobody", timeout=1000)

        nursery.start_soon(connect)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        await peer.disconnect("memory://nobody")
    assert trio.current_time() - before < 1
