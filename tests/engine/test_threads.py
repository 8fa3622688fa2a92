"""A peer belongs to the event loop that it was opened in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import trio

import duplex
from tests.engine.helpers import linked, outcome, until
from tests.machine import within

service = duplex.Service("service")


@service.rpc
async def double(number: int) -> int:
    return number * 2


@service.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@service.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


async def _elsewhere(function: Callable[[], Awaitable[object]]) -> None:
    """Run something in an event loop of its own, in another thread."""
    await trio.to_thread.run_sync(trio.run, function)


async def test_use_from_another_event_loop_is_refused() -> None:
    async with linked(service) as pair:
        remote, pinned = pair.service("service"), pair.link.service("service")
        for call in (
            lambda: remote.double(1),
            lambda: pinned.double(1),
            lambda: remote.double.notify(1),
            lambda: pair.client.connect("memory://elsewhere"),
            lambda: pair.client.service("nobody").call(),
        ):
            with pytest.raises(RuntimeError, match="event loop of another thread"):
                await _elsewhere(call)
        async with remote.count.open(1) as stream:
            assert await stream.receive() == 0
            with pytest.raises(RuntimeError, match="event loop of another thread"):
                await _elsewhere(stream.receive)
        assert await remote.double(2) == 4


async def test_threads_of_the_loop_may_call_through_it() -> None:
    async with linked(service) as pair:
        remote = pair.service("service")
        result = await trio.to_thread.run_sync(lambda: trio.from_thread.run(remote.double, 21))
        assert result == 42


async def test_what_a_thread_must_not_do_to_a_peer_is_refused_there() -> None:
    """Such as what would wake a task from outside of the loop, which breaks that."""
    other = duplex.Service("other")
    async with linked(service) as pair:
        remote = pair.service("service")
        async with remote.total.open() as call:
            refused: tuple[Callable[[], object], ...] = (
                lambda: pair.server.add_service(other),
                lambda: pair.server.set_health("service", serving=False),
                lambda: pair.client.connect_soon("memory://elsewhere"),
                lambda: pair.client.resolving("other"),
                pair.client.calls,
                pair.link.statistics,
                call.cancel,
            )
            for function in refused:
                with pytest.raises(RuntimeError, match="event loop of another thread"):
                    await trio.to_thread.run_sync(function)
            for waits in (
                pair.link.aclose,
                pair.link.wait_closed,
                call.send_eof,
                call.receive,
                call.aclose,
                lambda: call.send(1),
            ):
                with pytest.raises(RuntimeError, match="event loop of another thread"):
                    await _elsewhere(waits)
            await call.send(2)
            assert await call.result() == 2
        assert "other" not in pair.server.services


# -- what a handler in a thread may do -----------------------------------------------------------------


class Plain:
    """Handlers that are plain functions, or have threads, and what they see of their call there."""

    def __init__(self) -> None:
        self.left: list[float] = []
        self.cancelled_by: list[str | None] = []
        self.released = 0
        self.service = service = duplex.Service("plain")

        def look() -> None:
            call = duplex.current_call()
            self.left.append(call.time_remaining)
            self.cancelled_by.append(call.cancelled_by)

        @service.rpc
        def function() -> None:
            look()

        @service.rpc
        def generator() -> Iterator[int]:
            look()
            yield 1

        @service.rpc
        async def helper() -> None:
            await trio.to_thread.run_sync(look)

        @service.rpc
        def ends_itself() -> int:
            duplex.current_call().cancel("enough")
            return 1

        @service.rpc
        def ends_its_stream() -> Iterator[int]:
            yield 1
            duplex.current_call().cancel("enough")
            yield 2

        @service.rpc
        async def is_ended_by_a_helper() -> None:
            await trio.to_thread.run_sync(duplex.current_call().cancel, "enough")
            await trio.sleep_forever()

        @service.rpc
        async def release() -> None:
            self.released += 1

        @service.rpc
        def releases_late() -> None:
            call = duplex.current_call()
            while call.time_remaining:
                pass
            self.cancelled_by.append(call.cancelled_by)
            with duplex.detached():
                trio.from_thread.run(call.link.service("plain").release)


@pytest.mark.parametrize("method", ["function", "generator", "helper"])
async def test_a_thread_sees_the_time_that_its_call_has(method: str) -> None:
    plain = Plain()
    async with linked(plain.service) as pair:
        remote = pair.service("plain")
        called = getattr(remote, method).with_options(timeout=60)
        if method == "generator":
            async with called.open() as call:
                assert [number async for number in call] == [1]
        else:
            await called()
        assert 0 < plain.left.pop() <= 60
        assert plain.cancelled_by == [None]


async def test_a_thread_may_end_its_call() -> None:
    plain = Plain()
    async with linked(plain.service) as pair:
        remote = pair.service("plain")
        for ended in (remote.ends_itself(), remote.is_ended_by_a_helper()):
            error = await outcome(ended)
            assert isinstance(error, duplex.CallCancelled)
            assert "enough" in error.message
        async with remote.ends_its_stream.open() as call:
            assert await call.receive() == 1
            with pytest.raises(duplex.CallCancelled, match="enough"):
                await call.receive()


async def test_a_thread_may_release_what_it_holds_when_its_call_is_over() -> None:
    plain = Plain()
    async with linked(plain.service, offers=[plain.service]) as pair:
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.service("plain").releases_late.with_options(timeout=within(0.2))()
        await until(lambda: plain.released)
        assert plain.cancelled_by == ["deadline"]


async def test_detached_needs_a_task_or_a_handler() -> None:
    def detach() -> None:
        with duplex.detached():
            pass

    with pytest.raises(RuntimeError, match="Duplex runs on trio"):
        await trio.to_thread.run_sync(detach)


@pytest.mark.in_memory("sockets are of the whole machine")
async def test_memory_endpoints_are_of_one_event_loop() -> None:
    async def connect() -> str:
        async with duplex.open_peer() as peer:
            with pytest.raises(duplex.ConnectError) as caught:
                await peer.connect("memory://threads", timeout=0.01)
            return str(caught.value)

    async with duplex.open_peer() as peer:
        await peer.bind("memory://threads")
        assert "inproc://" in await trio.to_thread.run_sync(trio.run, connect)
