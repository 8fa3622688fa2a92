"""A handler that ended its stream and goes on: the caller can wait for how it ends."""

from __future__ import annotations

import pytest

import duplex
from tests.engine.helpers import collect, linked

service = duplex.Service("service")


@service.rpc
async def finish_later(channel: duplex.Channel[int, str], how: str) -> None:
    """Send one item, end the stream, wait for a word, then end as asked."""
    await channel.send(1)
    await channel.send_eof()
    assert await channel.receive() == "go on"
    if how == "fail":
        raise duplex.Aborted("afterwards")
    duplex.current_call().trailers["how"] = how


async def test_handler_that_goes_on_well() -> None:
    async with linked(service) as pair, pair.service("service").finish_later.open("well") as call:
        assert await collect(call) == [1]
        await call.send("go on")
        assert await call.result() is None
        assert call.trailers == {"how": "well"}


async def test_handler_that_goes_on_and_fails() -> None:
    async with linked(service) as pair, pair.service("service").finish_later.open("fail") as call:
        assert await collect(call) == [1]
        await call.send("go on")
        with pytest.raises(duplex.Aborted, match="afterwards"):
            await call.result()


async def test_items_must_be_received_first() -> None:
    async with linked(service) as pair, pair.service("service").finish_later.open("well") as call:
        await call.send("go on")
        with pytest.raises(TypeError, match="streams its results"):
            await call.result()
