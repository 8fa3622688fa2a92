"""Peers that take few attachments in a message, or none: what is large then travels in the payload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import trio

import duplex
from tests.engine.helpers import linked, until

LARGE: Final = 70_000
FEW: Final[dict[str, Any]] = {"limits": duplex.Limits(max_attachments=0)}


class Bytes:
    """A service of large values in every manner in which values travel."""

    def __init__(self) -> None:
        self.notified: list[Any] = []
        self.service = service = duplex.Service("bytes")

        @service.rpc
        async def echo(data: Any) -> Any:
            return data

        @service.rpc(inline=True)
        def inline(data: Any) -> Any:
            return data

        @service.rpc
        async def note(data: Any) -> None:
            self.notified.append(data)

        @service.rpc
        async def mirror(items: duplex.ReceiveChannel[Any]) -> AsyncIterator[Any]:
            async for item in items:
                yield item

        @service.rpc
        async def call_back(function: duplex.Callback[[Any], Any], data: Any) -> Any:
            return await function(data)

        @service.rpc
        async def drain(channel: duplex.ReceiveChannel[Any]) -> list[Any]:
            return [item async for item in channel]


@pytest.mark.parametrize("few", [{"server": FEW}, {"client": FEW}, {"server": FEW, "client": FEW}])
async def test_large_values_reach_peers_that_take_no_attachments(few: dict[str, Any]) -> None:
    data = bytes(LARGE)
    bytes_ = Bytes()
    async with linked(bytes_.service, **few) as pair:
        remote = pair.link.service("bytes")
        assert await remote.echo(data) == data
        assert await remote.inline(data) == data
        assert await remote.echo([data] * 65) == [data] * 65
        assert await remote.echo.with_options(codec="raw")(data) == data
        assert await remote.echo.with_options(idempotency_key="k")(data) == data
        assert await remote.call_back(lambda value: value, data) == data
        await remote.note.notify({"data": data})
        await until(lambda: bytes_.notified)
        assert bytes_.notified == [{"data": data}]
        async with remote.mirror.open() as call:
            await call.send(data)
            assert await call.receive() == data
        send, receive = trio.open_memory_channel[bytes](1)
        await send.send(data)
        send.close()
        assert await remote.drain(receive) == [data]


async def test_arrays_reach_peers_that_take_no_attachments() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(LARGE, dtype="<i8").reshape(7, -1)
    async with linked(Bytes().service, server=FEW, client=FEW) as pair:
        back = await pair.link.service("bytes").echo(array)
    assert (back == array).all()
    assert back.shape == array.shape


async def test_an_outcome_with_a_key_reaches_whoever_asks_for_it() -> None:
    data = bytes(LARGE)
    async with linked(Bytes().service) as pair:
        keyed: duplex.CallOptions = {"idempotency_key": "one for all"}
        assert await pair.link.service("bytes").echo.with_options(**keyed)(data) == data
        async with duplex.open_peer(**FEW) as other:
            link = await other.connect(pair.endpoint)
            # The same bytes as before, which is what makes it the same call: only the answer has to differ.
            assert await link.service("bytes").echo.with_options(**keyed)(data) == data


async def test_what_is_too_large_for_one_payload_is_refused_clearly() -> None:
    limits = {"limits": duplex.Limits(max_attachments=0, max_message=LARGE)}
    async with linked(Bytes().service, server=limits) as pair:
        with pytest.raises(duplex.MessageTooLarge, match="70000"):
            await pair.link.service("bytes").echo(bytes(LARGE))


async def test_a_notification_takes_no_live_values() -> None:
    async with linked(Bytes().service) as pair:
        with pytest.raises(duplex.EncodeError, match="a notification's does not"):
            await pair.link.service("bytes").note.notify(print)
