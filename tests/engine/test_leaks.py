"""Hundreds of calls of each kind leave nothing in memory, and no tasks but idle workers."""

from __future__ import annotations

import gc
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.calling._unary import UnaryCall
from duplex.engine.channels._channel_end import ChannelEnd
from duplex.engine.channels._live_values import CallValues
from duplex.engine.channels._nested import NestedChannel
from duplex.engine.links._session import Session
from duplex.engine.serving import Invocation, ServedChannel
from duplex.engine.serving.idempotency._run import KeyedRun
from tests.engine.helpers import Pair, collect, linked, outcome, quiet
from tests.machine import fail_after
from tests.sizes import size

pytestmark = [
    pytest.mark.usefixtures("others_out_of_sight"),
    pytest.mark.unmeasured("the same calls many times over"),
]

leaky = duplex.Service("leaky")


@leaky.rpc
async def echo(value: Any) -> Any:
    return value


@leaky.rpc(inline=True)
def inline(value: Any) -> Any:
    return value


@leaky.rpc
def threaded(value: Any) -> Any:
    return value


@leaky.rpc
async def fail() -> None:
    raise duplex.NotFound("no")


@leaky.rpc
async def hang() -> None:
    await trio.sleep_forever()


@leaky.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@leaky.rpc
async def shout(words: duplex.ReceiveChannel[int]) -> AsyncIterator[int]:
    async for word in words:
        yield word


@leaky.rpc
async def apply(function: duplex.Callback[[int], int]) -> int:
    return await function(1)


@leaky.rpc
async def drain(sink: duplex.SendChannel[int], source: duplex.ReceiveChannel[int]) -> int:
    await sink.send(1)
    return await source.receive()


@leaky.rpc
async def adder(start: int) -> Callable[[int], int]:
    return lambda number: start + number


async def _unary(pair: Pair) -> None:
    await pair.service("leaky").echo(1)


async def _inline(pair: Pair) -> None:
    await pair.service("leaky").inline(1)


async def _threaded(pair: Pair) -> None:
    await pair.service("leaky").threaded(1)


async def _keyed(pair: Pair) -> None:
    await pair.service("leaky").with_options(idempotency_key=secrets.token_hex(8)).echo(1)


async def _failing(pair: Pair) -> None:
    await outcome(pair.service("leaky").fail())


async def _unknown(pair: Pair) -> None:
    await outcome(pair.service("leaky").gone(lambda: 1))


async def _notified(pair: Pair) -> None:
    await pair.service("leaky").echo.notify(1)


async def _cancelled(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("leaky").hang)
            await trio.lowlevel.checkpoint()
            scope.cancel()


async def _timed_out(pair: Pair) -> None:
    await outcome(pair.service("leaky").with_options(timeout=0).hang())


async def _streaming(pair: Pair) -> None:
    async with pair.service("leaky").count.open(3) as call:
        await collect(call)


async def _left_early(pair: Pair) -> None:
    async with pair.service("leaky").count.open(1000) as call:
        await call.receive()


async def _bidirectional(pair: Pair) -> None:
    async with pair.service("leaky").shout.open() as call:
        await call.send(1)
        await call.receive()
        await call.send_eof()
        await collect(call)


async def _callback(pair: Pair) -> None:
    await pair.service("leaky").apply(lambda n: n)


async def _callback_as_result(pair: Pair) -> None:
    async with pair.service("leaky").adder.open(1) as call:
        await (await call.result())(2)


async def _channels(pair: Pair) -> None:
    sink, source = trio.open_memory_channel[int](1)
    other_sink, other_source = trio.open_memory_channel[int](1)
    with sink, source, other_sink, other_source:
        other_sink.send_nowait(5)
        await pair.service("leaky").drain(sink, other_source)


async def _unencodable(pair: Pair) -> None:
    sink, source = trio.open_memory_channel[int](1)
    with sink, source:
        await outcome(pair.service("leaky").echo([lambda: 1, source, object()]))


KINDS: dict[str, Callable[[Pair], Coroutine[Any, Any, None]]] = {
    name.strip("_").replace("_", " "): function
    for name, function in list(globals().items())
    if name.startswith("_") and callable(function) and getattr(function, "__module__", "") == __name__
}


def _census() -> Counter[str]:
    """Count what calls are made of."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, CallValues))


def test_the_census_counts_what_it_should() -> None:
    assert issubclass(UnaryCall, CallValues)
    assert issubclass(ChannelEnd, CallValues)
    assert issubclass(NestedChannel, CallValues)
    assert len(KINDS) == 16


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_many_calls(kind: str) -> None:
    make = KINDS[kind]
    async with linked(leaky, within=30) as pair:
        for _ in range(5):
            await make(pair)
        await quiet(pair.link, pair.back)
        before = _census()
        tasks = _tasks(pair)
        for _ in range(size(200, 1000)):
            await make(pair)
        await quiet(pair.link, pair.back)
        grown = _census() - before
        assert grown.total() <= 5, grown
        workers = len(pair.server._inside.workers._idle) + len(pair.client._inside.workers._idle)
        assert _tasks(pair) <= tasks + workers


@pytest.mark.parametrize(
    "kind", ["unary", "inline", "threaded", "notified", "streaming", "bidirectional", "failing", "keyed"]
)
async def test_the_garbage_collector_has_nothing_to_do(kind: str) -> None:
    """A run and its channel know each other, and would keep all arguments until it comes."""

    def served() -> int:
        return sum(isinstance(thing, (Invocation, ServedChannel, KeyedRun)) for thing in gc.get_objects())

    make = KINDS[kind]
    async with linked(leaky) as pair:
        await make(pair)
        await quiet(pair.link, pair.back)
        gc.collect()
        before = served()  # What other tests' errors still hold.
        gc.disable()
        try:
            for _ in range(20):
                await make(pair)
            await quiet(pair.link, pair.back)
            assert served() - before <= 1
        finally:
            gc.enable()


async def test_idle_workers_hold_nothing() -> None:
    """Least of all the arguments of the last call that they served."""
    go = trio.Event()
    service = duplex.Service("service")

    @service.rpc
    async def wait(data: bytes) -> None:
        await go.wait()

    async with linked(service) as pair:
        before = _census()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(pair.service("service").wait, bytes(1000))
            await pair.settle()
            go.set()
        await quiet(pair.link, pair.back)
        assert len(pair.server._inside.workers._idle) == 50
        assert (_census() - before).total() <= 1


def _tasks(pair: Pair) -> int:
    return len(pair.server._inside.home.nursery.child_tasks) + len(
        pair.client._inside.home.nursery.child_tasks
    )


@pytest.mark.slow
async def test_hundred_links_leave_nothing() -> None:
    def links() -> int:
        gc.collect()
        return sum(isinstance(thing, Session) for thing in gc.get_objects())

    with fail_after(20):
        async with duplex.open_peer(services=[leaky]) as server:
            endpoint = await server.bind("memory://*")
            before = links()
            for number in range(100):
                async with duplex.open_peer() as client:
                    link = await client.connect(endpoint)
                    assert await client.service("leaky").echo(number) == number
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(outcome, link.service("leaky").hang())
                        await trio.lowlevel.checkpoint()
                        await client.aclose()
            del link, client
            while server.links:
                await trio.lowlevel.checkpoint()
            assert links() - before <= 2
