"""No end overtakes what came before it: what has arrived is handed on, whatever ended in the meantime."""

from __future__ import annotations

import math

import pytest
import trio

from tests.engine.channel_service import channels
from tests.engine.held import late_tasks
from tests.engine.helpers import collect, linked, made


@pytest.mark.parametrize("room", [0, 2, math.inf])
@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_items_of_a_passed_channel_come_before_the_task_that_hands_them_on(
    room: float, opened: bool
) -> None:
    """And so does the result."""
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](room)
        with late_tasks(pair.client):
            assert await made(pair.service("channels").fill, sink, 5, opened=opened) == "filled"
        assert await collect(source) == [0, 1, 2, 3, 4]
