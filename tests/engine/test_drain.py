"""Leaving in order: what runs may finish, nothing new begins, and nobody is left without an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, linked, outcome, streamed, until
from tests.machine import fail_after


class Work:
    """A service whose calls end when they are told to."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.began = 0
        self.cleaned_up: list[str | None] = []
        self.service = service = duplex.Service("work")

        @service.rpc
        async def finish() -> str:
            self.began += 1
            await self.go.wait()
            return "done"

        @service.rpc
        async def stream() -> AsyncIterator[int]:
            self.began += 1
            yield 1
            await self.go.wait()
            yield 2

        @service.rpc
        async def hang() -> None:
            self.began += 1
            call = duplex.current_call()
            try:
                await trio.sleep_forever()
            finally:
                self.cleaned_up.append(call.cancelled_by)

        @service.rpc
        async def stubborn() -> str:
            """Clean up for longer than anybody waits."""
            self.began += 1
            with trio.CancelScope(shield=True):
                await trio.sleep(100)  # longer than anybody waits
            return "too late"

        @service.rpc
        async def ask_back(question: duplex.Callback[[], int]) -> int:
            self.began += 1
            await self.go.wait()
            return await question()

        @service.rpc
        async def quick() -> int:
            return 1


async def test_calls_that_run_finish_and_new_ones_go_elsewhere(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []
        remote = pair.link.service("work")

        async def call() -> None:
            results.append(await outcome(remote.finish()))

        async def listen() -> None:
            async with remote.stream.open() as stream:
                results.append(await collect(stream))

        async def call_back() -> None:
            async def answer() -> int:
                return 42

            results.append(await remote.ask_back(answer))

        for function in (call, listen, call_back):
            nursery.start_soon(function)
        await until(lambda: work.began == 3)
        nursery.start_soon(pair.server.drain)
        await until(lambda: pair.link.statistics().is_leaving)
        refused = await outcome(remote.quick())
        assert type(refused) is duplex.Unavailable
        assert refused.may_have_executed is False
        work.go.set()
        await until(lambda: len(results) == 3)
        assert sorted(results, key=str) == [42, [1, 2], "done"]
        await pair.link.wait_closed()
        assert pair.server.endpoints == []


async def test_drain_returns_when_all_calls_have_ended(autojump_clock: object) -> None:
    work = Work()
    async with linked(work.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.link.service("work").finish)
        await until(lambda: work.began)

        async def end_later() -> None:
            await trio.sleep(7)
            work.go.set()

        nursery.start_soon(end_later)
        began = trio.current_time()
        await pair.server.drain(30)
        assert trio.current_time() - began == pytest.approx(7, abs=0.1)


async def test_an_idle_peer_drains_at_once(autojump_clock: object) -> None:
    async with linked(Work().service, within=1000, check=False) as pair:
        began = trio.current_time()
        await pair.server.drain()
        assert trio.current_time() - began < 0.1
        await pair.server.drain()
        with pytest.raises(trio.ClosedResourceError):
            await pair.server.bind("memory://*")


async def test_the_rest_is_cancelled_as_unavailable(autojump_clock: object) -> None:
    work = Work()
    async with linked(work.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("work").hang()))

        nursery.start_soon(call)
        await until(lambda: work.began)
        began = trio.current_time()
        await pair.server.drain(5)
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        await until(lambda: results)
        (error,) = results
        assert type(error) is duplex.Unavailable
        assert "draining" in error.message
        assert error.may_have_executed is True
        assert work.cleaned_up == ["local"]


async def test_a_handler_that_does_not_stop_holds_nobody_up(autojump_clock: object) -> None:
    work = Work()
    async with linked(work.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("work").stubborn()))

        nursery.start_soon(call)
        await until(lambda: work.began)
        began = trio.current_time()
        await pair.server.drain(0)
        assert trio.current_time() - began == pytest.approx(1, abs=0.1), "the time to clean up"
        await until(lambda: results)
        assert isinstance(results[0], duplex.Unavailable)


async def test_a_handler_that_finishes_may_call_others() -> None:
    """The downstream peer is one that the draining peer has connected to; it stays usable until the end."""
    backend = duplex.Service("backend")
    front = duplex.Service("front")
    go, began = trio.Event(), trio.Event()

    @backend.rpc
    async def value() -> int:
        return 7

    async with (
        duplex.open_peer(services=[backend]) as third,
        linked(front, check=False) as pair,
        trio.open_nursery() as nursery,
    ):
        await pair.server.connect(await third.bind("memory://*"))

        @front.rpc
        async def forward() -> int:
            began.set()
            await go.wait()
            result: int = await pair.server.service("backend").value()
            return result

        pair.server._inside.services.handlers["front.forward"] = front.methods["forward"]
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("front").forward()))

        nursery.start_soon(call)
        await began.wait()
        nursery.start_soon(pair.server.drain)
        await until(lambda: pair.link.statistics().is_leaving)
        go.set()
        await until(lambda: results)
        assert results == [7]


async def test_health_turns_and_those_who_watch_it_hold_nobody_up(autojump_clock: object) -> None:
    work = Work()
    async with linked(work.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        seen: list[Any] = []

        async def watch() -> None:
            with pytest.raises(duplex.Unavailable):
                await streamed(pair.link.service("duplex.health").watch, seen)

        nursery.start_soon(watch)
        nursery.start_soon(pair.link.service("work").finish)
        await until(lambda: work.began and seen)
        nursery.start_soon(pair.server.drain)
        await until(lambda: len(seen) == 2)
        assert seen == ["SERVING", "NOT_SERVING"]
        began = trio.current_time()
        work.go.set()
        await pair.link.wait_closed()
        assert trio.current_time() - began < 1


async def test_new_links_are_refused_while_draining() -> None:
    work = Work()
    async with linked(work.service, check=False) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.link.service("work").finish)
        await until(lambda: work.began)
        nursery.start_soon(pair.server.drain)
        await until(lambda: pair.link.statistics().is_leaving)
        async with duplex.open_peer() as other:
            with pytest.raises(duplex.ConnectError, match="draining"):
                await other.connect(pair.endpoint, timeout=0.3)
        with pytest.raises(trio.ClosedResourceError, match="draining"):
            await pair.server.connect("memory://elsewhere")
        work.go.set()


async def test_cancelled_drain_leaves_the_peer_open_and_draining() -> None:
    work = Work()
    async with linked(work.service, check=False) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.link.service("work").finish)
        await until(lambda: work.began)
        with trio.move_on_after(0.05) as scope:
            await pair.server.drain()
        assert scope.cancelled_caught
        assert pair.link.is_open
        assert pair.server._inside.is_draining
        work.go.set()
        await pair.server.drain()
        await pair.link.wait_closed()


async def test_unary_calls_of_the_draining_peer_itself_finish() -> None:
    work = Work()
    async with linked(offers=[work.service], check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.back.service("work").finish()))

        nursery.start_soon(call)
        await until(lambda: work.began)
        nursery.start_soon(pair.server.drain)
        await until(lambda: pair.back.statistics().is_leaving)
        work.go.set()
        await until(lambda: results)
        assert results == ["done"]


async def test_streams_of_the_draining_peer_itself_hold_nobody_up(autojump_clock: object) -> None:
    work = Work()
    async with (
        linked(offers=[work.service], within=1000, check=False) as pair,
        trio.open_nursery() as nursery,
    ):

        async def listen() -> None:
            with pytest.raises(duplex.PeerLost):
                await streamed(pair.back.service("work").stream)

        nursery.start_soon(listen)
        await until(lambda: work.began)
        began = trio.current_time()
        await pair.server.drain()
        assert trio.current_time() - began < 0.1


@pytest.mark.slow
async def test_a_rolling_restart_fails_no_call(endpoint: str) -> None:
    """A server drains and another takes its place at the endpoint; calls that cross the goodbye are repeated."""
    results: list[Any] = []
    numbers: set[int] = set()

    async def call_forever() -> None:
        for number in range(10_000):
            results.append(await outcome(client.service("work").add(number)))
            if len(results) % 50 == 0:
                await trio.sleep(0.001)  # lets libzmq's thread and the other tasks work

    def make() -> duplex.Service:
        service = duplex.Service("work")

        @service.rpc
        async def add(number: int) -> int:
            assert number not in numbers, "executed twice"
            return number

        return service

    with fail_after(30):
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            client_started = False
            for _ in range(5):
                async with duplex.open_peer(services=[make()]) as server:
                    endpoint = await server.bind(endpoint)
                    if not client_started:
                        await client.connect(endpoint)
                        nursery.start_soon(call_forever)
                        client_started = True
                    enough = len(results) + 100
                    while len(results) < enough:
                        await trio.sleep(0.001)  # no event tells of the other task's calls
                    await server.drain()
            nursery.cancel_scope.cancel()
    assert len(results) >= 500
    assert [result for result in results if isinstance(result, Exception)] == []
