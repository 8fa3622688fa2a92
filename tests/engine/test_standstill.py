"""What could wait for ever goes on, or is told so."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import numpy as np
import pytest
import trio

import duplex
from duplex.engine.threads import _threads
from tests.engine.helpers import feed, linked, outcome, until
from tests.machine import fail_after

here, there = duplex.Service("here"), duplex.Service("there")


def _back(name: str) -> Any:
    link: Any = duplex.current_call().link
    return link.service(name)


@here.rpc
def order(number: int) -> int:
    return int(trio.from_thread.run(_back("there").price, number))


@there.rpc
def price(number: int) -> int:
    return 2 * int(trio.from_thread.run(_back("here").rate, number))


@here.rpc
def rate(number: int) -> int:
    return number


@here.rpc
def orders(count: int) -> Iterator[int]:
    for number in range(count):
        yield trio.from_thread.run(_back("there").price, number)


@here.rpc
def collected(count: int) -> list[int]:
    return trio.from_thread.run(_collect, _back("there"), count)


async def _collect(remote: Any, count: int) -> list[int]:
    async with remote.prices.open(count) as call:
        return [item async for item in call]


@there.rpc
def prices(count: int) -> Iterator[int]:
    for number in range(count):
        yield trio.from_thread.run(_back("here").rate, number)


@here.rpc
def down(depth: int) -> int:
    return trio.from_thread.run(_back("there").down, depth - 1) + 1 if depth else 0


@there.rpc(name="down")
def down_there(depth: int) -> int:
    return trio.from_thread.run(_back("here").down, depth - 1) + 1 if depth else 0


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
@pytest.mark.parametrize("threads", [1, 2, 40])
async def test_threads_that_all_wait_for_calls_back(scheme: str, threads: int) -> None:
    """As many handlers as there are threads, each of which calls across, where another calls back."""
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    few: dict[str, Any] = {"max_threads": threads}
    done: list[int] = []

    async def one(number: int) -> None:
        done.append(await pair.service("here").order(number))

    async with linked(here, endpoint=endpoint, offers=[there], server=few, client=few) as pair:
        async with trio.open_nursery() as nursery:
            for number in range(threads):
                nursery.start_soon(one, number)
        assert sorted(done) == [2 * number for number in range(threads)]
        assert pair.server._inside.threads.calling == pair.client._inside.threads.calling == 0
        assert pair.server._inside.threads.running == pair.client._inside.threads.running == 0


@pytest.mark.slow
async def test_more_callers_than_threads_that_call_back() -> None:
    few: dict[str, Any] = {"max_threads": 4}
    done: list[Any] = []

    async def one(number: int) -> None:
        done.append(await outcome(pair.service("here").order(number)))

    async with linked(here, offers=[there], server=few, client=few) as pair:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
        assert sorted(done) == [2 * number for number in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["orders", "collected"])
async def test_streams_of_threads_that_call_back(method: str) -> None:
    few: dict[str, Any] = {"max_threads": 2}
    found: list[list[int]] = []

    async def one() -> None:
        remote = pair.service("here")
        found.append(await remote.collected(3) if method == "collected" else await _items(remote.orders))

    async def _items(stream: Any) -> list[int]:
        async with stream.open(3) as call:
            return [item async for item in call]

    async with linked(here, offers=[there], server=few, client=few) as pair:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
    assert sorted(found) == [[0, 1, 2] if method == "collected" else [0, 2, 4]] * 4


@pytest.mark.slow
async def test_a_chain_that_is_longer_than_there_are_threads() -> None:
    few: dict[str, Any] = {"max_threads": 3}
    async with linked(here, offers=[there], server=few, client=few) as pair:
        assert await pair.service("here").down(9) == 9


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that stand still are seen soon, and few more begin."""
    monkeypatch.setattr(_threads, "STILL", 0.01)
    monkeypatch.setattr(_threads, "PATIENCE", 5)
    monkeypatch.setattr(_threads, "MORE", 1)


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_chain_without_end_is_refused(keyed: bool, hasty: None) -> None:
    """There is a bound to the threads that begin because others wait for them; then what waits is refused."""
    few: dict[str, Any] = {"max_threads": 2, "debug": True}
    async with linked(here, offers=[there], server=few, client=few) as pair:
        method = pair.service("here").down
        if keyed:
            method = method.with_options(idempotency_key="k")
        error = await outcome(method(100))
        assert type(error) is duplex.Internal
        assert "ResourceExhausted" in error.message
        assert await pair.service("here").rate(1) == 1


@pytest.mark.slow
async def test_what_is_refused_a_thread_never_began(hasty: None) -> None:
    service = duplex.Service("service")
    home = duplex.Service("home")
    ran: list[str] = []

    @home.rpc
    async def wait() -> None:
        await released.wait()

    @service.rpc
    def block() -> None:
        trio.from_thread.run(_back("home").wait)

    @service.rpc
    def run(name: str) -> str:
        ran.append(name)
        return name

    released = trio.Event()
    async with linked(service, offers=[home], server={"max_threads": 1}) as pair:
        remote = pair.service("service")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.block)
            nursery.start_soon(remote.block)
            await until(lambda: pair.server._inside.threads.calling == 2)
            keyed = remote.run.with_options(idempotency_key="k")
            for method in (remote.run, keyed):
                with pytest.raises(duplex.ResourceExhausted, match="max_threads") as caught:
                    await method("x")
                assert not caught.value.may_have_executed
                assert caught.value.retry_after == 0.1
            assert ran == []
            released.set()
        # What never began is not remembered as the outcome of its key.
        assert await keyed("x") == "x"
    assert ran == ["x"]


async def test_threads_that_are_busy_let_nobody_in() -> None:
    """Only waiting for calls makes room: who is at work counts, be it with one thread that guards what is not shared."""
    service = duplex.Service("service")
    entered, go = threading.Event(), threading.Event()
    order: list[str] = []

    @service.rpc
    def work(name: str) -> None:
        order.append(f"{name} begins")
        entered.set()
        go.wait(5)
        order.append(f"{name} ends")

    async with linked(service, server={"max_threads": 1}) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("service").work, "a")
            await until(entered.is_set)
            nursery.start_soon(pair.service("service").work, "b")
            await until(lambda: pair.server._inside.threads.waiting)
            await trio.sleep(4 * _threads.STILL)  # nothing is to happen in it, and no event says so
            assert order == ["a begins"]
            go.set()
    assert order == ["a begins", "a ends", "b begins", "b ends"]


# -- waiting for what cannot come ----------------------------------------------------------------------

streams = duplex.Service("streams")


@streams.rpc
async def total(numbers: duplex.ReceiveChannel[int], start: int = 0) -> int:
    return start + sum([number async for number in numbers])


@streams.rpc
async def record(numbers: duplex.ReceiveChannel[int]) -> None:
    async for _ in numbers:
        pass


@streams.rpc
async def answer(channel: duplex.Channel[int, int]) -> None:
    """Say nothing for long."""
    number = await channel.receive()
    await trio.sleep(100)  # by the clock of the test
    await channel.send(number)


@streams.rpc
async def late(after: float) -> AsyncIterator[int]:
    await trio.sleep(after)  # by the clock of the test
    yield 1


@streams.rpc
async def ready(after: float, function: duplex.Callback[[], None] | None = None) -> str:
    await trio.sleep(after)  # by the clock of the test
    return "ready"


class Streams(Protocol):
    async def total(self, numbers: duplex.ReceiveChannel[int], start: int = 0) -> int: ...

    late: duplex.Streaming[[float], Any, int]
    ready: duplex.Unary[[float], str]


async def _first(call: Any, how: str) -> Any:
    if how == "receive":
        return await call.receive()
    async for item in call:
        return item
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("how", ["receive", "iterate"])
@pytest.mark.parametrize("policy", [None, "drop_oldest"])
async def test_items_of_a_method_that_returns_one_value(
    how: str, policy: Any, autojump_clock: object
) -> None:
    """It waits for items, and so does its caller: they would wait for each other."""
    async with linked(streams, within=60) as pair:
        remote = pair.service("streams").with_options(overflow=policy)
        for method in (remote.total, remote.record):
            async with method.open() as call:
                began = trio.current_time()
                for _ in range(2):
                    with pytest.raises(
                        TypeError, match=r"streams\.\w+ returns one value: use `await call.result"
                    ):
                        await _first(call, how)
                assert trio.current_time() - began < 1
                if method.__repr__() == "<remote method streams.total>":
                    await call.send(2)
                    await call.send(3)
                    assert await call.result() == 5
        async with remote.ready.open(1000) as call:
            with pytest.raises(TypeError, match="returns one value"):
                await _first(call, how)


@pytest.mark.parametrize("how", ["receive", "iterate"])
async def test_items_of_a_method_whose_class_says_that_it_returns_one_value(how: str) -> None:
    async with linked(streams, server={"reflection": False}) as pair:
        typed: Any = pair.client.service(Streams)
        for method, arguments in (
            (typed.total, ()),
            (typed.ready, (60,)),
            (typed.total.with_options(timeout=5), ()),
        ):
            async with method.open(*arguments) as call:
                with pytest.raises(TypeError, match="returns one value"):
                    await _first(call, how)
        async with typed.late.open(0) as call:
            assert await _first(call, how) == 1


async def test_streams_that_are_merely_late(autojump_clock: object) -> None:
    async with linked(streams, within=1000) as pair:
        remote = pair.service("streams")
        async with remote.late.open(100) as call:
            assert await call.receive() == 1
        async with remote.answer.open() as call, trio.open_nursery() as nursery:
            nursery.start_soon(_send_later, call)
            assert await call.receive() == 1


async def _send_later(call: Any) -> None:
    await trio.sleep(100)  # by the clock of the test
    await call.send(1)


async def test_peer_that_does_not_say_what_it_offers(autojump_clock: object) -> None:
    """Then there is nothing to be known, and who waits does."""
    async with linked(streams, server={"reflection": False}, within=1000) as pair:
        async with pair.service("streams").total.open() as call:
            with trio.move_on_after(60) as scope:
                await call.receive()
            assert scope.cancelled_caught
            await call.send(1)
            assert await call.result() == 1


async def test_peer_that_says_anything_of_what_it_offers(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That costs the caller nothing, whatever it is."""
    async with linked(streams, within=1000) as pair:
        name = "duplex.reflection.describe"
        told: Any = pair.server._inside.services.handlers[name]
        answers: list[Any] = [
            [],
            {"methods": 1},
            {"methods": [{"kind": np.zeros(2)}]},
            {"methods": np.zeros(2)},
        ]
        for answer in answers:
            handler = dataclasses.replace(told, function=lambda *_, answer=answer: answer)
            monkeypatch.setitem(pair.server._inside.services.handlers, name, handler)
            async with pair.service("streams").total.open() as call:
                with trio.move_on_after(60) as scope:
                    await call.receive()
                assert scope.cancelled_caught
        assert pair.link.is_open


async def test_nobody_is_asked_about_a_stream_that_goes_on(
    autojump_clock: object,
) -> None:
    async with linked(streams, within=1000) as pair:
        begun = pair.link._inside.connection.channels_begun
        async with pair.service("streams").late.open(0.1) as call:
            assert await call.receive() == 1
            with trio.move_on_after(100):
                await trio.sleep_forever()
        assert pair.link._inside.connection.channels_begun - begun == 2, "the stream's own channel"


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
@pytest.mark.parametrize("live", [False, True])
async def test_items_for_a_method_that_takes_none(scheme: str, live: bool) -> None:
    """They are ignored, and nobody waits until more may be sent."""
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    async with linked(streams, endpoint=endpoint) as pair:
        remote = pair.service("streams")
        arguments = (60, lambda: None) if live else (60,)
        async with remote.ready.open(*arguments) as call:
            with fail_after(5):
                for _ in range(40):
                    await call.send("x" * 100_000)
        async with remote.late.open(60) as call:
            with fail_after(5):
                for _ in range(40):
                    await call.send("x" * 100_000)


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
async def test_items_beside_a_channel_that_was_passed(scheme: str) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    async with linked(streams, endpoint=endpoint) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with pair.service("streams").total.open(source, start=1) as call:
            with fail_after(5):
                for _ in range(40):
                    await call.send("x" * 100_000)
                await sink.send(2)
                await sink.aclose()
                assert await call.result() == 3


# -- other waits ---------------------------------------------------------------------------------------


async def test_sending_to_a_handler_that_has_ended() -> None:
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def leave(items: duplex.ReceiveChannel[str]) -> int:
        await go.wait()
        return 1

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError, match="has ended the call"):
            await feed(call, "x" * 100_000)

    async with linked(service) as pair:
        async with pair.service("service").leave.open() as call:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(send)
                await until(lambda: call.statistics().waiting_senders)
                go.set()
            assert await call.result() == 1


async def test_a_peer_that_is_linked_to_itself() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def down(depth: int) -> int:
        return depth and 1 + int(await peer.service("service").down(depth - 1))

    @service.rpc(name="thread")
    def in_thread(depth: int) -> int:
        return depth and 1 + int(trio.from_thread.run(peer.service("service").thread, depth - 1))

    with fail_after(10):
        async with duplex.open_peer(services=[service], max_threads=2) as peer:
            await peer.connect(await peer.bind("memory://*"))
            assert await peer.service("service").down(20) == 20
            assert await peer.service("service").thread(5) == 5
            await peer.drain(5)


async def test_calling_back_when_no_more_handlers_may_run() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def down(depth: int) -> Any:
        if not depth:
            return "the end"
        found = await outcome(_back("service").down(depth - 1))
        return str(found)

    few: dict[str, Any] = {"limits": duplex.Limits(max_handlers=2), "debug": True}
    async with linked(service, offers=[service], server=few, client=few) as pair:
        assert await pair.service("service").down(3) == "the end"
        assert "limit (Limits.max_handlers)" in await pair.service("service").down(9)


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("method", ["wait", "wait_in_thread"])
async def test_draining_while_handlers_call_each_other(method: str, depth: int) -> None:
    """What is called in turn, and calls back the peer that drains, is part of the call that runs: nobody waits."""
    service = duplex.Service("service")
    entered, go = trio.Event(), trio.Event()

    @service.rpc
    async def wait(depth: int) -> int:
        entered.set()
        await go.wait()
        return depth and 1 + int(await _back("service").wait(depth - 1))

    @service.rpc
    def wait_in_thread(depth: int) -> int:
        trio.from_thread.run_sync(entered.set)
        trio.from_thread.run(go.wait)
        return depth and 1 + int(trio.from_thread.run(_back("service").wait_in_thread, depth - 1))

    found: list[Any] = []

    async def call() -> None:
        found.append(await outcome(pair.service("service")[method](depth)))

    async with linked(service, offers=[service], check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await entered.wait()
            nursery.start_soon(pair.server.drain, 60)
            await until(lambda: pair.server._inside.is_draining)
            go.set()
    assert found == [depth]


async def test_handler_that_drains_its_own_peer(autojump_clock: object) -> None:
    """The drain waits for the handler, and the handler for the drain; the time limit of the drain ends that."""
    service = duplex.Service("service")

    @service.rpc
    async def stop() -> None:
        await peer.drain(2)

    with fail_after(60):
        async with duplex.open_peer(services=[service]) as peer, duplex.open_peer() as client:
            await client.connect(await peer.bind("memory://*"))
            with pytest.raises(duplex.Unavailable, match="draining"):
                await client.service("service").stop()


# -- threads that wait for what nobody wants any more --------------------------------------------------

endless = duplex.Service("endless")
begun: list[str] = []
ended: list[str] = []


@endless.rpc
async def forever() -> None:
    begun.append("call")
    try:
        await trio.sleep_forever()
    finally:
        ended.append("call")


@endless.rpc
async def items() -> AsyncIterator[int]:
    try:
        begun.append("stream")
        yield 1
        await trio.sleep_forever()
    finally:
        ended.append("stream")


waiting = duplex.Service("waiting")


@waiting.rpc
def call_forever() -> None:
    trio.from_thread.run(_back("endless").forever)


@waiting.rpc
def read_forever() -> None:
    trio.from_thread.run(_read, _back("endless"))


@waiting.rpc
def yield_forever() -> Iterator[int]:
    yield 1
    trio.from_thread.run(_back("endless").forever)


async def _read(remote: Any) -> None:
    async with remote.items.open() as call:
        async for _ in call:
            pass


@pytest.mark.parametrize("how", ["cancel", "handler", "drain", "close"])
@pytest.mark.parametrize("method", ["call_forever", "read_forever", "yield_forever"])
async def test_thread_that_waits_for_its_call_is_told_of_the_end(method: str, how: str) -> None:
    """It would keep its place, and what it has called would run, for as long as the other side likes."""
    begun.clear()
    ended.clear()
    async with linked(waiting, offers=[endless], server={"max_threads": 1}, check=how == "cancel") as pair:
        threads = pair.server._inside.threads
        async with pair.service("waiting")[method].open():
            await until(lambda: begun and threads.calling == 1)
            if how == "handler":
                (served,) = [call for call in pair.back._inside.channels.users.values() if not call.opener]
                served.cut(duplex.StatusCode.CANCELLED, "enough")
            elif how == "drain":
                await pair.server.drain(0)
            elif how == "close":
                await pair.back.aclose()
        await until(lambda: (threads.running, threads.calling, threads.generators) == (0, 0, 0))
        await until(lambda: ended == ["stream" if method == "read_forever" else "call"])


@pytest.mark.parametrize("end", ["source", "sink"])
async def test_channel_that_raises_what_ends_programs(end: str) -> None:
    """It costs its call, and neither its peer nor the link."""
    service = duplex.Service("service")

    class Source(trio.abc.ReceiveChannel[int]):
        async def receive(self) -> int:
            raise SystemExit("leave me alone")

        async def aclose(self) -> None:
            raise SystemExit("leave me alone")

    class Sink(trio.abc.SendChannel[int]):
        async def send(self, value: int) -> None:
            raise SystemExit("leave me alone")

        async def aclose(self) -> None:
            raise SystemExit("leave me alone")

    @service.rpc
    async def read(source: duplex.ReceiveChannel[int]) -> str:
        return str(await outcome(source.receive()))

    @service.rpc
    async def write(sink: duplex.SendChannel[int]) -> str:
        try:
            await feed(sink, 1)
        except trio.BrokenResourceError as error:
            return str(error)
        return ""

    async with linked(service, streams) as pair:
        remote = pair.service("service")
        async with remote.read.open(Source()) if end == "source" else remote.write.open(Sink()) as call:
            assert "SystemExit" in str(await outcome(call.result()))
        assert await pair.service("streams").ready(0) == "ready"
        assert pair.client.links == [pair.link]
