"""Giving up: cancelled scopes, deadlines, and what the other side hears of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, linked, made, outcome, until
from tests.machine import fail_after


class Sleeper:
    """A service whose methods go on until they are stopped, and note how that happens."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.deadlines: list[float] = []
        self.service = service = duplex.Service("sleeper")

        @service.rpc
        async def good() -> int:
            return 1

        @service.rpc
        async def unary() -> None:
            await self._sleep("unary")

        @service.rpc
        async def stream() -> AsyncIterator[int]:
            yield 1
            await self._sleep("stream")

        @service.rpc
        async def listen(items: duplex.ReceiveChannel[int]) -> None:
            self._begin("listen")
            try:
                async for _ in items:
                    pass
                await trio.sleep_forever()
            finally:
                self.ended.append("listen")

        @service.rpc
        async def both(items: duplex.Channel[int, int]) -> None:
            async for item in items:
                await items.send(item)
            await self._sleep("both")

        @service.rpc
        async def slow_to_stop(seconds: float) -> None:
            """Clean up for a while."""
            try:
                await self._sleep("slow")
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
                self.ended.append("at last")

        @service.rpc
        async def stubborn() -> str:
            """Take no notice of being cancelled, and return a value."""
            try:
                await self._sleep("stubborn")
            except trio.Cancelled:
                pass
            return "too late"

        @service.rpc
        async def fail_when_cancelled(how: str) -> None:
            self._begin("fail")
            try:
                await trio.sleep_forever()
            finally:
                self.ended.append("fail")
                if how == "exception":
                    raise ValueError("while it was cancelled")
                if how == "status":
                    raise duplex.Aborted("while it was cancelled")
                raise SystemExit("while it was cancelled")

        @service.rpc
        async def fail_in_a_task(how: str) -> None:
            """The same in a child task, so that it comes together with Cancelled."""

            async def child() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise SystemExit("in a task") if how == "exit" else ValueError("in a task")

            self._begin("fail")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                await trio.sleep_forever()

        @service.rpc
        async def remaining() -> list[Any]:
            """Return what is known of the deadline."""
            call = duplex.current_call()
            effective = trio.current_effective_deadline() - trio.current_time()
            known = None if call.deadline is None else call.deadline - trio.current_time()
            return [call.time_remaining, effective, known]

        @service.rpc
        async def nest(depth: int, timeout: float | None = None) -> list[Any]:
            """Ask again further on, perhaps with a timeout of its own."""
            link: Any = duplex.current_call().link
            remote = link.service("sleeper").with_options(timeout=timeout)
            result: list[Any] = await (remote.nest(depth - 1) if depth else remote.remaining())
            return result

        @service.rpc
        async def nest_and_hang() -> None:
            link: Any = duplex.current_call().link
            self._begin("nest")
            try:
                await link.service("sleeper").unary()
            finally:
                self.ended.append("nest")

    def _begin(self, what: str) -> None:
        self.started.append(what)
        self.deadlines.append(trio.current_effective_deadline())

    async def _sleep(self, what: str) -> None:
        self._begin(what)
        try:
            await trio.sleep_forever()
        finally:
            self.ended.append(what)


async def test_cancelled_scope(endpoint: str) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, endpoint=endpoint) as pair:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.service("sleeper").unary)
                await until(lambda: sleeper.started)
                scope.cancel()
        assert scope.cancelled_caught
        await until(lambda: sleeper.ended == ["unary"])
        assert await pair.service("sleeper").good() == 1


@pytest.mark.parametrize("method", ["stream", "listen", "both"])
async def test_leaving_the_block(method: str, endpoint: str) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, endpoint=endpoint) as pair:
        async with pair.service("sleeper")[method].open() as call:
            if method == "stream":
                assert await call.receive() == 1
            else:
                await call.send(1)
                if method == "both":
                    await call.send_eof()
            await until(lambda: sleeper.started)
        await until(lambda: sleeper.ended == [method])


async def test_leaving_the_block_with_an_error() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        with pytest.raises(ZeroDivisionError):
            await _fail_within(pair.service("sleeper").unary, lambda: sleeper.started)
        await until(lambda: sleeper.ended)


async def _fail_within(method: duplex.MethodProxy, condition: Callable[[], object]) -> None:
    """Raise in the block of an open call, once something is so."""
    async with method.open():
        await until(condition)
        raise ZeroDivisionError


async def _sleep_within(method: duplex.MethodProxy, seconds: float) -> None:
    """Sleep in the block of an open call."""
    async with method.open() as call:
        await call.receive()
        await trio.sleep(seconds)


async def test_cancelled_while_sending_and_receiving() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        with trio.CancelScope() as scope:
            async with pair.service("sleeper").both.open() as call, trio.open_nursery() as nursery:
                nursery.start_soon(collect, call)
                await call.send(1)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught


async def test_cancelled_before_it_begins() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        remote = pair.service("sleeper")
        with trio.CancelScope() as scope:
            scope.cancel()
            await remote.unary()
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            async with remote.stream.open():
                pass  # pragma: no cover
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await remote.unary.notify()
        assert scope.cancelled_caught
        await pair.settle()
    assert "stream" not in sleeper.started


async def test_reason_of_the_caller() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        async with pair.service("sleeper").unary.open() as call:
            call.cancel("changed my mind")
            with pytest.raises(duplex.CallCancelled, match="changed my mind") as caught:
                await call.result()
            assert caught.value.cancelled_by == "local"


async def test_handler_that_cancels_itself() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def give_up() -> None:
        raise duplex.CallCancelled("no longer wanted")

    @service.rpc
    async def own_scope() -> str:
        with trio.move_on_after(0):
            await trio.sleep_forever()
        return "fine"

    async with linked(service) as pair:
        with pytest.raises(duplex.CallCancelled, match="no longer wanted") as caught:
            await pair.service("service").give_up()
        assert caught.value.cancelled_by == "remote"
        assert await pair.service("service").own_scope() == "fine"


async def test_handler_that_takes_its_time_to_stop(autojump_clock: object) -> None:
    """The caller does not wait for it, but the channel is only over when it has ended."""
    sleeper = Sleeper()
    async with linked(sleeper.service, within=100) as pair:
        started = trio.current_time()
        with trio.move_on_after(1):
            await pair.service("sleeper").slow_to_stop(10)
        assert trio.current_time() - started == pytest.approx(1)
        await pair.settle()
        assert pair.link.statistics().outgoing == 1
        assert pair.back.statistics().incoming == 1
        assert sleeper.ended == ["slow"]
        await trio.sleep(11)
        assert sleeper.ended == ["slow", "at last"]


async def test_handler_that_does_not_stop() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        async with pair.service("sleeper").stubborn.open():
            await until(lambda: sleeper.started)
        await until(lambda: sleeper.ended)
        assert await pair.service("sleeper").good() == 1


@pytest.mark.parametrize("how", ["exception", "status", "exit"])
async def test_handler_that_fails_when_it_is_cancelled(how: str) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        async with pair.service("sleeper").fail_when_cancelled.open(how):
            await until(lambda: sleeper.started)
        await until(lambda: sleeper.ended)
        await pair.settle()
        assert await pair.service("sleeper").good() == 1


@pytest.mark.parametrize("how", ["exception", "exit"])
async def test_handler_that_fails_in_a_task_when_it_is_cancelled(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        async with pair.service("sleeper").fail_in_a_task.open(how):
            await until(lambda: sleeper.started)
        await until(lambda: "in a task" in caplog.text)
        assert await pair.service("sleeper").good() == 1


async def test_cancelling_travels_on() -> None:
    """The handler waits for a call of its own, which is cancelled with it."""
    sleeper = Sleeper()
    async with linked(sleeper.service, offers=[sleeper.service]) as pair:
        async with pair.service("sleeper").nest_and_hang.open():
            await until(lambda: sleeper.started == ["nest", "unary"])
        await until(lambda: sorted(sleeper.ended) == ["nest", "unary"])


@pytest.mark.slow
async def test_thousand_cancelled_calls() -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        for number in range(1000):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pair.service("sleeper").unary)
                    if number % 2:
                        await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()


# -- deadlines -----------------------------------------------------------------------------------------


async def test_deadline_of_the_scope_travels(autojump_clock: object) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        with trio.fail_after(7):
            seen = await pair.service("sleeper").remaining()
        assert seen == pytest.approx([7, 7, 7], abs=0.002)


async def test_timeout_of_the_options_travels(autojump_clock: object) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        remote = pair.service("sleeper").with_options(timeout=7)
        assert await remote.remaining() == pytest.approx([7, 7, 7], abs=0.002)
        with trio.fail_after(3):
            assert await remote.remaining() == pytest.approx([3, 3, 3], abs=0.002), "the shorter one counts"
        with trio.fail_after(30):
            assert await remote.remaining() == pytest.approx([7, 7, 7], abs=0.002)
        async with remote.remaining.open() as call:
            assert await call.result() == pytest.approx([7, 7, 7], abs=0.002)
        with trio.fail_after(50):
            seen = await remote.with_options(timeout=None).remaining()
        assert seen == pytest.approx([50, 50, 50], abs=0.002)


async def test_call_without_a_deadline() -> None:
    sleeper = Sleeper()
    async with duplex.open_peer(services=[sleeper.service]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("memory://*"))
        assert await client.service("sleeper").remaining() == [math.inf, math.inf, None]


async def test_calls_further_on_inherit_the_deadline(autojump_clock: object) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, offers=[sleeper.service], within=1000) as pair:
        remote = pair.service("sleeper").with_options(timeout=7)
        assert await remote.nest(4) == pytest.approx([7, 7, 7], abs=0.02)
        assert await remote.nest(1, timeout=100) == pytest.approx([7, 7, 7], abs=0.02)
        assert await remote.nest(0, timeout=2) == pytest.approx([2, 2, 2], abs=0.02)


@pytest.mark.parametrize("opened", [False, True])
async def test_timeout_passes(opened: bool, autojump_clock: object) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        remote = pair.service("sleeper").with_options(timeout=3)
        started = trio.current_time()
        with pytest.raises(duplex.DeadlineExceeded) as caught:
            await made(remote.unary, opened=opened)
        assert trio.current_time() - started == pytest.approx(3, abs=0.002)
        error = caught.value
        assert error.method == "sleeper.unary"
        assert error.code is duplex.StatusCode.DEADLINE_EXCEEDED
        assert error.cancelled_by == "deadline"
        assert error.may_have_executed is True
        await until(lambda: sleeper.ended)
        assert sleeper.deadlines == pytest.approx([started + 3], abs=0.002)


async def test_timeout_bounds_the_whole_block(autojump_clock: object) -> None:
    """Whatever is done in it, and an error of its own comes out as it is."""
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        remote = pair.service("sleeper").with_options(timeout=3)
        started = trio.current_time()
        with pytest.raises(duplex.DeadlineExceeded):
            await _sleep_within(remote.stream, 100)
        assert trio.current_time() - started == pytest.approx(3, abs=0.002)
        with pytest.raises(ZeroDivisionError):
            await _fail_within(remote.stream, lambda: True)
        async with remote.stream.open() as call:
            assert await call.receive() == 1
        with trio.move_on_after(1) as scope:
            async with remote.stream.open() as call:
                await collect(call)
        assert scope.cancelled_caught, "an outer scope is not mistaken for the timeout"


async def test_scope_that_ends_first_is_not_an_error_of_the_call(autojump_clock: object) -> None:
    """With trio's own scopes the end is trio's own: nothing is wrapped, nobody is blamed."""
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        result = await outcome(_within(3, pair.service("sleeper").unary))
        assert result == "cancelled" or type(result) is duplex.DeadlineExceeded
        assert await pair.service("sleeper").good() == 1


async def _within(seconds: float, method: Any) -> Any:
    with trio.move_on_after(seconds):
        return await method()
    return "cancelled"


async def test_deadline_that_passes_at_the_server_only() -> None:
    """A caller that does not keep its own deadline is told that it has passed."""
    from tests.engine.raw import RawDealer

    sleeper = Sleeper()
    with fail_after(5):
        async with duplex.open_peer(services=[sleeper.service]) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                await raw.shake_hands([7, 1, "sleeper.unary", 3, b"\x91\x90", 0, 5])
                (closed,) = await raw.commands(10)
                assert closed[:3] == [10, 1, int(duplex.StatusCode.DEADLINE_EXCEEDED)]
                assert sleeper.ended == ["unary"]


@pytest.mark.parametrize("seconds", [0, 1e-9])
async def test_deadline_that_has_passed_already(seconds: float) -> None:
    sleeper = Sleeper()
    async with linked(sleeper.service) as pair:
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.service("sleeper").with_options(timeout=seconds).unary()


async def test_deadline_of_a_plain_function(autojump_clock: object) -> None:
    """A function on the event loop is not interrupted, so its result counts."""
    service = duplex.Service("service")

    @service.rpc(inline=True)
    def quick() -> float:
        return duplex.current_call().time_remaining

    async with linked(service, within=1000) as pair:
        remote = pair.service("service").with_options(timeout=4)
        assert await remote.quick() == pytest.approx(4, abs=0.002)


async def test_worker_does_not_keep_a_deadline(autojump_clock: object) -> None:
    """The task that served a call with a deadline serves the next one without."""
    sleeper = Sleeper()
    async with linked(sleeper.service, within=1000) as pair:
        await pair.service("sleeper").with_options(timeout=2).good()
        done: list[int] = []

        @sleeper.service.rpc
        async def later() -> int:
            await trio.sleep(50)
            return 2

        pair.server._inside.services.handlers["sleeper.later"] = sleeper.service.methods["later"]
        done.append(await pair.service("sleeper").later())
        assert done == [2]


@pytest.mark.parametrize("shielded", [False, True])
async def test_sending_right_after_the_call_was_cancelled(
    shielded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler has not come to its next checkpoint yet. It is cancelled there, and nothing was wrong."""
    service = duplex.Service("service")
    seen: list[BaseException] = []
    started = trio.Event()

    @service.rpc
    async def busy(channel: duplex.Channel[int, int]) -> None:
        call = duplex.current_call()
        started.set()
        try:
            with trio.CancelScope(shield=shielded):
                while call.cancelled_by is None:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                await channel.send(1)
                await channel.send_eof()
        except BaseException as error:
            seen.append(error)
            raise

    async with linked(service) as pair:
        async with pair.service("service").busy.open():
            await started.wait()
        await until(lambda: seen)
    expected = trio.BrokenResourceError if shielded else trio.Cancelled
    assert isinstance(seen[0], expected), seen
    assert caplog.text == ""


async def test_handler_that_fails_because_its_caller_gave_up(caplog: pytest.LogCaptureFixture) -> None:
    """The end of the caller's channel may reach it before its own cancellation does; that is no incident."""
    service = duplex.Service("service")
    seen: list[BaseException] = []

    @service.rpc
    async def busy(sink: duplex.SendChannel[int]) -> None:
        call = duplex.current_call()
        try:
            await sink.send(1)
            while call.cancelled_by is None:
                await trio.lowlevel.cancel_shielded_checkpoint()
            await sink.send(2)
        except BaseException as error:
            seen.append(error)
            raise

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with pair.service("service").busy.open(sink):
            assert await source.receive() == 1
        await until(lambda: seen)
    assert "incident" not in caplog.text
