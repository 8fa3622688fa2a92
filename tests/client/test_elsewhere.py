"""A call that never began at one peer is made at another one, unless what was passed has gone with the first attempt."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import linked, outcome, until
from tests.engine.raw import RawRouter
from tests.machine import fail_after

service = duplex.Service("raw")


@service.rpc
async def add(a: int, b: int) -> int:
    return a + b


@service.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


@service.rpc
async def apply(function: duplex.Callback[[int], int]) -> int:
    return await function(1)


@contextlib.asynccontextmanager
async def leaving_and_staying(
    limits: dict[str, int] | None = None,
) -> AsyncIterator[tuple[RawRouter, duplex.Peer]]:
    """A peer that is linked to one that takes a call and then leaves, and to one that serves."""
    with fail_after(10), RawRouter() as router:
        async with (
            duplex.open_peer(services=[service], name="staying") as staying,
            duplex.open_peer() as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(client.connect, router.endpoint)
            await router.shake_hands(services=["raw"], limits=limits)
            await until(lambda: client.links)
            await client.connect(await staying.bind("memory://*"))
            yield router, client


async def _call(client: duplex.Peer, router: RawRouter, method: str, *arguments: Any) -> Any:
    """Call; the one that is asked first says goodbye once it has heard of the call, which it never began."""
    results: list[Any] = []

    async def call() -> None:
        results.append(await outcome(client.service("raw")[method](*arguments)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await router.commands(7)
        router.say([5, 0, "closing", "bye"])
    return results[0]


async def test_a_call_that_never_began_is_made_elsewhere() -> None:
    async with leaving_and_staying() as (router, client):
        assert await _call(client, router, "add", 1, 2) == 3


async def test_functions_that_were_passed_are_passed_again() -> None:
    async with leaving_and_staying() as (router, client):
        assert await _call(client, router, "apply", lambda value: value + 41) == 42


async def test_channels_that_were_passed_have_gone() -> None:
    """Whoever reads the local end of it would get nothing, or half of it."""
    async with leaving_and_staying() as (router, client):
        _, receive = trio.open_memory_channel[int](3)
        error = await _call(client, router, "total", receive)
        assert isinstance(error, duplex.Unavailable)
        assert error.may_have_executed is False
        await until(lambda: receive.statistics().open_receive_channels == 0)


async def test_channels_that_were_not_sent_are_passed_again() -> None:
    """The call waited for credit, and its arguments had not been sent."""
    window = {"link_window": 1024, "channel_window": 1024}
    async with leaving_and_staying(limits=window) as (router, client):
        stuffed = client.links[0].service("raw").total.open()
        async with stuffed as call:
            await call.send(bytes(2000))
            send, receive = trio.open_memory_channel[int](3)
            for number in range(3):
                await send.send(number)
            await send.aclose()
            results: list[Any] = []

            async def total() -> None:
                results.append(await outcome(client.service("raw").total(receive)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(total)
                await router.commands(7, 3)
                assert results == []
                router.say([5, 0, "closing", "bye"])
            assert results == [3]


class LeavesOnce:
    """A link that takes no more calls when the first one comes, which nobody could know when it was chosen."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self.refused = 0

    def _refuse(self) -> None:
        if not self.refused:
            self.refused += 1
            error = duplex.Unavailable("the link is closing")
            error.may_have_executed = False
            raise error

    async def unary(self, *call: Any) -> Any:
        self._refuse()
        return await self._caller.unary(*call)

    async def notify(self, *call: Any) -> None:
        self._refuse()
        await self._caller.notify(*call)

    @contextlib.asynccontextmanager
    async def open(self, *call: Any) -> AsyncIterator[Any]:
        self._refuse()
        async with self._caller.open(*call) as opened:
            yield opened


@pytest.mark.parametrize("kind", ["unary", "open", "notify"])
async def test_calls_of_every_kind_are_made_elsewhere(kind: str) -> None:
    async with linked(service) as pair:
        link: Any = pair.link._inside
        link.caller = leaves = LeavesOnce(link.caller)
        method = pair.service("raw").add
        if kind == "unary":
            assert await method(1, 2) == 3
        elif kind == "open":
            async with method.open(1, 2) as call:
                assert await call.result() == 3
        else:
            await method.notify(1, 2)
        assert leaves.refused == 1
        leaves.refused = 0
        proxy: Any = pair.link.service("raw").add
        made = {"unary": proxy, "open": lambda *of: proxy.open(*of).__aenter__(), "notify": proxy.notify}
        with pytest.raises(duplex.Unavailable, match="the link is closing"):
            await made[kind](1, 2)


@pytest.mark.parametrize("kind", ["unary", "open", "notify"])
async def test_what_may_have_been_executed_is_not_made_elsewhere(kind: str) -> None:
    async with linked(service) as pair:
        link: Any = pair.link._inside

        class Fails:
            calls = 0

            async def unary(self, *_: Any) -> None:
                self.calls += 1
                raise duplex.Unavailable("lost")

            notify = unary

            @contextlib.asynccontextmanager
            async def open(self, *_: Any) -> AsyncIterator[None]:
                await self.unary()
                yield

        link.caller = fails = Fails()
        method = pair.service("raw").add
        made: dict[str, Any] = {
            "unary": method,
            "open": lambda *of: method.open(*of).__aenter__(),
            "notify": method.notify,
        }
        with pytest.raises(duplex.Unavailable, match="lost"):
            await made[kind](1, 2)
        assert fails.calls == 1
