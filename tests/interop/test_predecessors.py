"""What the tests of the earlier Duplexes (2014, 2016) and of libchan asserted, as far as it still means something.

Each test is named after the one that it reproduces. What they asserted of their wire formats is not here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import SCHEMES, collect, endpoint_of, linked, outcome, quiet, until
from tests.machine import fail_after

demo = duplex.Service("demo")


@demo.rpc
async def echo(value: Any) -> Any:
    return value


@demo.rpc
async def echo_tag(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "tag": True}


@demo.rpc
async def count(upto: int) -> AsyncIterator[dict[str, int]]:
    for number in range(1, upto + 1):
        yield {"num": number}


@demo.rpc
async def adder(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


@demo.rpc
async def add_up(numbers: duplex.ReceiveChannel[int]) -> AsyncIterator[int]:
    """Stream the sum so far."""
    total = 0
    async for number in numbers:
        total += number
        yield total


@demo.rpc
async def callback(function: duplex.Callback[[str], str], text: str) -> str:
    return await function(text)


@demo.rpc
async def interrupted(items: int, of: int) -> AsyncIterator[int]:
    for number in range(of):
        if number == items:
            raise duplex.RPCError("Test Message", code=duplex.StatusCode.ABORTED, details=1000)
        yield number


@demo.rpc
async def wait_for(name: str) -> str:
    await _gate(name).wait()
    return name


@demo.rpc
async def open_gate(name: str) -> None:
    _gate(name).set()


_gates: dict[str, trio.Event] = {}


def _gate(name: str) -> trio.Event:
    return _gates.setdefault(name, trio.Event())


@pytest.fixture(autouse=True)
def _closed_gates() -> None:
    _gates.clear()


@pytest.fixture(params=SCHEMES)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return endpoint_of(request.param, tmp_path)


# -- Duplex, 2016 --------------------------------------------------------------------------------------


async def test_all_on_paired_peers(endpoint: str) -> None:
    """Both call each other at once, and each gets its own data."""
    results: dict[str, Any] = {}

    async def call(name: str, link: duplex.Link) -> None:
        results[name] = await link.service("demo").echo_tag({"from": name})

    async with linked(demo, offers=[demo], endpoint=endpoint) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "client", pair.link)
            nursery.start_soon(call, "server", pair.back)
    assert results == {name: {"from": name, "tag": True} for name in ("client", "server")}


async def test_streaming_multiple_results(endpoint: str) -> None:
    async with linked(demo, endpoint=endpoint) as pair:
        async with pair.service("demo").count.open(5) as call:
            items = await collect(call)
        assert len(items) == 5
        assert sum(item["num"] for item in items) == 15


async def test_streaming_multiple_arguments(endpoint: str) -> None:
    async with linked(demo, endpoint=endpoint) as pair:
        async with pair.service("demo").adder.open() as call:
            for number in range(1, 6):
                await call.send(number)
            assert await call.result() == 15


async def test_custom_codec(endpoint: str) -> None:
    async with linked(demo, endpoint=endpoint) as pair:
        remote = pair.service("demo").with_options(codec="json")
        assert await remote.echo({"foo": ["bar", 1, None]}) == {"foo": ["bar", 1, None]}


async def test_register_func_and_callback_func(endpoint: str) -> None:
    async with linked(demo, endpoint=endpoint) as pair:
        assert await pair.service("demo").callback(lambda text: text.upper(), "hello") == "HELLO"


async def test_call_async_when_reply_nil(endpoint: str) -> None:
    seen: list[str] = []
    service = duplex.Service("service")

    @service.rpc
    async def note(text: str) -> None:
        seen.append(text)

    async with linked(service, endpoint=endpoint) as pair:
        with fail_after(1):
            await pair.service("service").note.notify("heard")
            await until(lambda: seen)


async def test_error_reply_call() -> None:
    async with linked(demo) as pair:
        async with pair.service("demo").interrupted.open(0, 5) as call:
            error = await outcome(call.receive())
        assert (error.message, error.details) == ("Test Message", 1000)


async def test_error_in_stream() -> None:
    async with linked(demo) as pair:
        async with pair.service("demo").interrupted.open(2, 5) as call:
            assert await collect(call, 2) == [0, 1]
            assert isinstance(await outcome(call.receive()), duplex.Aborted)


# -- Duplex, 2014 --------------------------------------------------------------------------------------


async def test_peer_frame_send_receive(endpoint: str) -> None:
    """The side that binds opens towards the side that connects; bytes go both ways unchanged."""
    async with linked(offers=[demo], endpoint=endpoint) as pair:
        assert await pair.back.service("demo").echo(bytes(range(256))) == bytes(range(256))


async def test_round_robin_and_async_connect(tmp_path: Path) -> None:
    """A client connects to two endpoints that are not bound yet and binds a third; calls reach all three."""
    services: list[duplex.Service] = []
    calls: Counter[int] = Counter()
    for number in range(3):
        service = duplex.Service("who")

        async def answer(number: int = number) -> None:
            calls[number] += 1

        service.add(answer, name="answer")
        services.append(service)
    endpoints = ["memory://early-1", f"ipc://{tmp_path}/early-2"]
    with fail_after(10):
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(client.connect, endpoint)
            own = await client.bind("tcp://127.0.0.1:*")
            await trio.testing.wait_all_tasks_blocked(0.001)
            async with (
                duplex.open_peer(services=[services[0]]) as one,
                duplex.open_peer(services=[services[1]]) as two,
                duplex.open_peer(services=[services[2]]) as three,
            ):
                await one.bind(endpoints[0])
                await two.bind(endpoints[1])
                await three.connect(own)
                await until(lambda: len(client.links) == 3)
                who = client.service("who").with_options(balancer="round_robin")
                for _ in range(6):
                    await who.answer(0)
                for _ in range(6):
                    await who.answer()
                await quiet(*client.links)
    assert calls[1] == calls[2] == 2
    assert calls[0] == 8, "six were told so, two by their default"


async def test_async_messaging(endpoint: str) -> None:
    """A call that is made before there is a server completes."""
    results: list[Any] = []
    with fail_after(10):
        async with duplex.open_peer() as client, duplex.open_peer(services=[demo]) as server:
            address = await client.bind(endpoint)

            async def call() -> None:
                results.append(await client.service("demo").echo("early"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.001)
                await server.connect(address)
    assert results == ["early"]


async def test_specific_peer_connect() -> None:
    """A call to one link reaches the peer that it names, and no other."""
    async with linked(demo, server={"name": "other"}) as pair:
        async with duplex.open_peer(services=[demo], name="wanted") as wanted:
            link = await pair.client.connect(await wanted.bind("memory://*"))
            for _ in range(3):
                async with link.service("demo").echo.open(1) as call:
                    assert call.peer == "wanted"
                    assert await call.result() == 1


async def test_peer_drop_connection(endpoint: str) -> None:
    """Afterwards neither side lists the other."""
    async with linked(demo, endpoint=endpoint, check=False) as pair:
        await pair.client.disconnect(pair.endpoint)
        assert pair.client.links == []
        await until(lambda: not pair.server.links)


async def test_async_call() -> None:
    """Two calls are under way and end in the other order."""
    order: list[str] = []
    async with linked(demo) as pair:
        remote = pair.service("demo")

        async def call(name: str) -> None:
            order.append(await remote.wait_for(name))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "first")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(call, "second")
            await remote.open_gate("second")
            await until(lambda: order)
            await remote.open_gate("first")
    assert order == ["second", "first"]


async def test_streaming_input_output() -> None:
    """Answers arrive before the input has ended."""
    async with linked(demo) as pair:
        async with pair.service("demo").add_up.open() as call:
            for number, total in ((1, 1), (2, 3), (3, 6)):
                await call.send(number)
                assert await call.receive() == total


async def test_interrupted_call_by_server(endpoint: str) -> None:
    """The error comes after exactly so many items, and the connection is usable after each."""
    async with linked(demo, endpoint=endpoint) as pair:
        for items in (30, 0):
            async with pair.service("demo").interrupted.open(items, 100) as call:
                assert await collect(call, items) == list(range(items))
                assert isinstance(await outcome(call.receive()), duplex.Aborted)
            assert await pair.service("demo").echo(items) == items


async def test_interrupted_call_by_client(endpoint: str) -> None:
    async with linked(demo, endpoint=endpoint) as pair:
        async with pair.service("demo").count.open(1_000_000) as call:
            assert len(await collect(call, 10)) == 10
        assert await pair.service("demo").echo("usable") == "usable"


async def test_connect_3_peers() -> None:
    """Each is linked to both others, and sees their names."""
    with fail_after(10):
        async with (
            duplex.open_peer(name="a") as a,
            duplex.open_peer(name="b") as b,
            duplex.open_peer(name="c") as c,
        ):
            await b.connect(await a.bind("memory://*"))
            await c.connect(await a.bind("memory://*"))
            await c.connect(await b.bind("memory://*"))
            for peer, others in ((a, "bc"), (b, "ac"), (c, "ab")):
                await until(lambda peer=peer: len(peer.links) == 2)  # type: ignore[misc]
                assert sorted(link.peer_name for link in peer.links) == list(others)


async def test_join() -> None:
    """Two calls joined by somebody in the middle: both directions, and each end when its source ends."""
    async with linked(demo) as far:
        middle = duplex.Service("middle")
        onward = far.client.service("demo")

        @middle.rpc
        async def add_up(channel: duplex.Channel[int, int]) -> None:
            async with onward.add_up.open() as call, trio.open_nursery() as nursery:

                async def there() -> None:
                    async for item in channel:
                        await call.send(item)
                    await call.send_eof()

                nursery.start_soon(there)
                async for item in call:
                    await channel.send(item)

        far.client.add_service(middle)
        address = await far.client.bind("memory://*")
        async with duplex.open_peer() as client:
            link = await client.connect(address)
            async with client.service("middle").add_up.open() as call:
                for number in range(10):
                    await call.send(number)
                await call.send_eof()
                assert await collect(call) == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]
            await quiet(link)


# -- libchan -------------------------------------------------------------------------------------------


def _filled(*items: Any) -> trio.MemoryReceiveChannel[Any]:
    sink, source = trio.open_memory_channel[Any](math.inf)
    for item in items:
        sink.send_nowait(item)
    sink.close()
    return source


async def test_complex_message(endpoint: str) -> None:
    """One message with text, a channel each way and a function, all of them used; not all of it ASCII."""
    service = duplex.Service("service")

    @service.rpc
    async def work(message: dict[str, Any]) -> str:
        async for item in message["in"]:
            await message["out"].send(item + message["text"])
        await message["out"].aclose()
        return str(await message["call"]("ende"))

    async with linked(service, endpoint=endpoint) as pair:
        sink, source = trio.open_memory_channel[str](math.inf)
        message = {"text": "→ü😈", "in": _filled("a", "ß"), "out": sink, "call": lambda text: text.upper()}
        assert await pair.service("service").work(message) == "ENDE"
        assert await collect(source) == ["a→ü😈", "ß→ü😈"]


async def test_channel_proxy(endpoint: str) -> None:
    """Four messages, each with a channel for its answer, pass through a peer in the middle; so does the end."""
    service = duplex.Service("service")

    @service.rpc
    async def serve(requests: duplex.ReceiveChannel[dict[str, Any]]) -> int:
        number = 0
        async for request in requests:
            await request["reply"].send(request["value"] * 2)
            await request["reply"].aclose()
            number += 1
        return number

    async with linked(service, endpoint=endpoint) as far:
        middle = duplex.Service("middle")
        onward = far.client.service("service")

        @middle.rpc
        async def serve(requests: duplex.ReceiveChannel[dict[str, Any]]) -> int:
            async with onward.serve.open() as call:
                async for request in requests:
                    await call.send(request)
                result: int = await call.result()
                return result

        far.client.add_service(middle)
        address = await far.client.bind("memory://*")
        async with duplex.open_peer() as client:
            await client.connect(address)
            async with client.service("middle").serve.open() as call:
                for value in range(4):
                    sink, source = trio.open_memory_channel[int](0)
                    await call.send({"value": value, "reply": sink})
                    assert await collect(source) == [2 * value]
                assert await call.result() == 4


async def test_byte_stream() -> None:
    """What was written before the message that names the channel is not lost."""
    service = duplex.Service("service")

    @service.rpc
    async def read(source: duplex.ReceiveChannel[bytes], other: duplex.ReceiveChannel[bytes]) -> bytes:
        return b"".join([part async for part in source]) + b"".join([part async for part in other])

    async with linked(service) as pair:
        assert await pair.service("service").read(_filled(b"early", b"bird"), _filled()) == b"earlybird"


async def test_channel_abstraction() -> None:
    """A channel in a field whose type nobody declared."""
    service = duplex.Service("service")

    @service.rpc
    async def read(anything: Any) -> list[Any]:
        return await collect(anything[0]["deep"])

    async with linked(service) as pair:
        assert await pair.service("service").read([{"deep": _filled(1, 2)}]) == [1, 2]
