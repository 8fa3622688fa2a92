"""Deadlines: of threads, of nested calls, and of work that is detached from them on purpose."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import linked, made, outcome, streamed, until
from tests.machine import fail_after, within

#: Seconds by which a deadline may grow from call to call: to whole milliseconds on the wire.
ROUNDING = 0.001


class Chain:
    """A service whose methods call others, in every manner, and note what time these are given."""

    def __init__(self) -> None:
        self.remaining: list[float] = []
        self.ended: list[str] = []
        self.link: Callable[[], duplex.Link]
        self.service = service = duplex.Service("chain")

        @service.rpc
        async def leaf() -> None:
            self.remaining.append(duplex.current_call().time_remaining)

        @service.rpc
        async def nested(timeout: float | None = None) -> None:
            back = duplex.current_call().link.service("chain")
            await back.leaf.with_options(timeout=timeout)()

        @service.rpc
        async def pass_on(hops: int) -> None:
            self.remaining.append(duplex.current_call().time_remaining)
            if hops:
                await duplex.current_call().link.service("chain").pass_on(hops - 1)

        @service.rpc
        def threaded(timeout: float | None = None) -> None:
            back = duplex.current_call().link.service("chain")
            trio.from_thread.run(back.leaf.with_options(timeout=timeout))

        @service.rpc
        def threaded_open() -> None:
            async def call() -> None:
                async with duplex.current_call().link.service("chain").leaf.open() as opened:
                    await opened.result()

            trio.from_thread.run(call)

        @service.rpc
        async def detached() -> None:
            back = duplex.current_call().link.service("chain")
            with duplex.detached():
                await back.leaf()

        @service.rpc
        async def release_when_cancelled() -> None:
            back = duplex.current_call().link.service("chain")
            try:
                await trio.sleep_forever()
            finally:
                with duplex.detached(), trio.move_on_after(5):
                    await back.leaf()
                    self.ended.append("released")

        @service.rpc
        async def hang() -> None:
            try:
                await trio.sleep_forever()
            finally:
                self.ended.append(str(duplex.current_call().cancelled_by))

        @service.rpc
        async def count() -> AsyncIterator[int]:
            yield 1
            await trio.sleep_forever()


@pytest.mark.parametrize("method", ["nested", "threaded", "threaded_open"])
async def test_nested_calls_inherit_the_shorter_deadline(method: str) -> None:
    chain = Chain()
    async with linked(chain.service, offers=[chain.service]) as pair:
        remote = pair.link.service("chain")
        await remote[method].with_options(timeout=5)()
        assert 4 < chain.remaining.pop() <= 5 + ROUNDING
        with trio.fail_after(4):
            await remote[method]()
        assert 3 < chain.remaining.pop() <= 4 + ROUNDING
        await remote[method]()
        assert chain.remaining.pop() > 5, "that of the test itself"
        if method != "threaded_open":
            await remote[method].with_options(timeout=5)(1.0)
            assert 0.5 < chain.remaining.pop() <= 1 + ROUNDING
            await remote[method].with_options(timeout=1)(5.0)
            assert 0.5 < chain.remaining.pop() <= 1 + ROUNDING


async def test_a_deadline_does_not_grow_from_call_to_call(autojump_clock: object) -> None:
    chain = Chain()
    async with linked(chain.service, offers=[chain.service]) as pair:
        for _ in range(10):
            await trio.sleep(0.0003)  # the clock is nowhere near anything round
            await pair.link.service("chain").pass_on.with_options(timeout=5)(8)
            assert len(chain.remaining) == 9
            assert max(chain.remaining) <= 5 + 1e-6
            chain.remaining.clear()


async def test_detached_calls_inherit_nothing() -> None:
    chain = Chain()
    async with linked(chain.service, offers=[chain.service]) as pair:
        await pair.link.service("chain").detached.with_options(timeout=5)()
        assert chain.remaining == [math.inf]


async def test_detached_work_goes_on_after_a_cancellation() -> None:
    chain = Chain()
    async with linked(chain.service, offers=[chain.service]) as pair:
        with trio.move_on_after(0.02):
            await pair.link.service("chain").release_when_cancelled()
        await until(lambda: chain.ended)
        assert chain.ended == ["released"]


async def test_detached_work_ends_with_the_peer(autojump_clock: object) -> None:
    chain = Chain()
    async with linked(chain.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            with duplex.detached():
                results.append(await outcome(pair.link.service("chain").hang()))

        nursery.start_soon(call)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        await pair.client.aclose()
        await until(lambda: results)
    assert isinstance(results[0], duplex.PeerLost)


async def test_the_scope_of_detached_work_can_be_cancelled() -> None:
    chain = Chain()
    async with linked(chain.service) as pair:
        with duplex.detached() as scope:
            scope.cancel()
            await pair.link.service("chain").hang()
        assert scope.cancelled_caught


@pytest.mark.slow
async def test_a_server_that_never_answers_does_not_outlive_the_deadline() -> None:
    """The caller's own clock ends the call, whether the other side reacts or not."""
    service = duplex.Service("service")

    @service.rpc(inline=True)
    def block(seconds: float) -> None:
        time.sleep(seconds)  # the point: the event loop of the server stands still

    blocked = within(0.75)
    with fail_after(20):
        async with duplex.open_peer() as client:
            address: list[str] = []
            ready, stop = trio.Event(), trio.Event()
            token = trio.lowlevel.current_trio_token()

            async def serve() -> None:
                async with duplex.open_peer(services=[service]) as server:
                    address.append(await server.bind("tcp://127.0.0.1:*"))
                    token.run_sync_soon(ready.set)
                    while not stop.is_set():
                        await trio.sleep(0.01)  # an event of the other thread cannot be awaited here

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, trio.run, serve)
                await ready.wait()
                await client.connect(address[0])
                began = trio.current_time()
                with pytest.raises(duplex.DeadlineExceeded) as caught:
                    await client.service("service").block.with_options(timeout=0.2)(blocked)
                assert trio.current_time() - began < 0.8 * blocked
                assert caught.value.cancelled_by == "deadline"
                assert caught.value.may_have_executed is True
                stop.set()


async def test_a_deadline_says_whether_the_call_was_sent(autojump_clock: object) -> None:
    chain = Chain()
    async with linked(chain.service, within=1000) as pair:
        for seconds, sent in ((0, False), (1, True)):
            with pytest.raises(duplex.DeadlineExceeded) as caught:
                await pair.service("chain").hang.with_options(timeout=seconds)()
            assert caught.value.may_have_executed is sent
            assert ("was not sent" in caught.value.message) is not sent
        with pytest.raises(duplex.DeadlineExceeded) as caught:
            await streamed(pair.service("chain").count.with_options(timeout=1))
        assert caught.value.may_have_executed is True
    async with duplex.open_peer() as lonely:
        lonely.connect_soon("memory://nowhere")
        for method in ("awaited", "opened"):
            remote = lonely.service("chain").with_options(timeout=1).leaf
            with pytest.raises(duplex.DeadlineExceeded) as caught:
                await made(remote, opened=method == "opened")
            assert caught.value.may_have_executed is False
            assert caught.value.method == "chain.leaf"


async def test_handlers_learn_who_ended_them(autojump_clock: object) -> None:
    chain = Chain()
    async with linked(chain.service, within=1000, check=False) as pair:
        remote = pair.link.service("chain")
        with trio.move_on_after(0.5):
            await remote.hang()
        assert await outcome(remote.hang.with_options(timeout=1)()) is not None
        async with remote.hang.open() as call:
            await trio.sleep(1)
            call.cancel("enough")
        async with trio.open_nursery() as nursery:

            async def call_again() -> None:
                assert isinstance(await outcome(remote.hang()), duplex.PeerLost)

            nursery.start_soon(call_again)
            await trio.sleep(1)
            await pair.link.aclose()
        await until(lambda: len(chain.ended) == 4)
    assert chain.ended == ["deadline", "deadline", "remote", "link"]


async def test_a_handler_may_cancel_its_own_call() -> None:
    service = duplex.Service("service")
    ended: list[str | None] = []

    @service.rpc
    async def give_up() -> None:
        call = duplex.current_call()
        call.cancel("no longer wanted")
        call.cancel("again")
        try:
            await trio.sleep_forever()
        finally:
            ended.append(call.cancelled_by)

    @service.rpc
    async def stream() -> AsyncIterator[int]:
        yield 1
        duplex.current_call().cancel()
        yield 2
        await trio.sleep_forever()

    async with linked(service) as pair:
        error = await outcome(pair.link.service("service").give_up())
        assert type(error) is duplex.CallCancelled
        assert error.cancelled_by == "remote"
        assert "no longer wanted" in error.message
        assert ended == ["local"]
        with pytest.raises(duplex.CallCancelled):
            await streamed(pair.link.service("service").stream)


async def test_a_thread_whose_call_is_over_makes_no_more_calls() -> None:
    chain = Chain()
    service = duplex.Service("service")
    results: list[Any] = []
    go = trio.Event()

    @service.rpc
    def work() -> None:
        back = duplex.current_call().link.service("chain")
        trio.from_thread.run(go.wait)
        try:
            trio.from_thread.run(back.leaf)
        except duplex.DuplexError as error:
            results.append(error)

    async with linked(service, offers=[chain.service]) as pair:
        with trio.move_on_after(0.1):
            await pair.link.service("service").work()
        await pair.settle()
        go.set()
        await until(lambda: results)
    (error,) = results
    assert type(error) is duplex.CallCancelled
    assert error.may_have_executed is False
    # The caller's clock runs from when it sent the call, the server's from when it came: on a busy machine a moment later.
    assert error.cancelled_by in ("deadline", "remote")
    assert chain.remaining == []


@pytest.mark.parametrize("offset", [0.0, 0.0003, 0.0009])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 7.1])
async def test_the_caller_notices_its_own_deadline_first(
    autojump_clock: trio.testing.MockClock, offset: float, seconds: float
) -> None:
    async with linked(Chain().service, within=100) as pair:
        remote = pair.service("chain")
        await trio.sleep(offset)
        with trio.move_on_after(seconds) as scope:
            await remote.hang()
        assert scope.cancelled_caught
        with pytest.raises(duplex.DeadlineExceeded, match="the call did not end within"):
            await remote.hang.with_options(timeout=seconds)()
        with pytest.raises(trio.TooSlowError), trio.fail_after(seconds):
            await remote.hang()
