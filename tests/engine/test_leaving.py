"""What goes on around a link that is being left: handlers that still call, answers on their way, calls that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import outcome
import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import linked, until
from tests.engine.helpers import outcome as outcome_of
from tests.machine import fail_after

leaf = duplex.Service("leaf")


@leaf.rpc
async def value() -> int:
    return 7


def front(peer: list[duplex.Peer], *, pause: float) -> duplex.Service:
    """A service whose handler calls another peer after a while."""
    service = duplex.Service("front")

    @service.rpc
    async def forward() -> int:
        await trio.sleep(pause)
        result: int = await peer[0].service("leaf").value()
        return result

    return service


@pytest.mark.parametrize("leaves", ["nobody", "the third"])
async def test_what_finishes_keeps_its_links_however_long_it_takes(
    autojump_clock: object, leaves: str
) -> None:
    """The downstream link has no calls for most of the drain, and may be one that the other side leaves too."""
    middle: list[duplex.Peer] = []
    service = front(middle, pause=20)
    age = duplex.Keepalive(max_age=5) if leaves == "the third" else duplex.Keepalive()
    async with (
        duplex.open_peer(services=[leaf], keepalive=age) as third,
        linked(service, within=1000, check=False) as pair,
        trio.open_nursery() as nursery,
    ):
        middle.append(pair.server)
        await pair.server.connect(await third.bind("memory://*"))
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome_of(pair.link.service("front").forward()))

        nursery.start_soon(call)
        await until(lambda: pair.server.calls())
        await pair.server.drain(60)
        await until(lambda: results)
        assert results == [7]


async def test_links_that_come_during_a_drain_are_left_at_once(autojump_clock: object) -> None:
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def work() -> str:
        await go.wait()
        return "done"

    async with linked(service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        pair.server.connect_soon("memory://later")
        nursery.start_soon(pair.link.service("service").work)
        await until(lambda: pair.server.calls())
        nursery.start_soon(pair.server.drain, 600)
        await until(lambda: pair.link.statistics().is_leaving)
        async with duplex.open_peer() as late:
            await late.bind("memory://later")
            await until(lambda: late.links)
            (link,) = late.links
            await until(lambda: link.statistics().is_leaving)
            error = await outcome_of(link.service("service").work())
            assert type(error) is duplex.Unavailable
            assert error.may_have_executed is False
            go.set()
            await pair.link.wait_closed()


async def test_a_large_answer_is_waited_for(autojump_clock: object) -> None:
    """As long as the drain has time, sockets stay open until the other side has read everything."""
    service = duplex.Service("service")

    @service.rpc
    async def work() -> bytes:
        await trio.sleep(1)
        return bytes(1000)

    async with linked(service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome_of(pair.link.service("service").work()))

        nursery.start_soon(call)
        await until(lambda: pair.server.calls())
        deliver = pair.link._inside.inbound.on_frames

        def late(frames: Any) -> None:
            nursery.start_soon(deliver_later, frames)

        async def deliver_later(frames: Any) -> None:
            await trio.sleep(8)  # a slow network
            deliver(frames)

        pair.link._inside.inbound.on_frames = late  # type: ignore[method-assign]
        began = trio.current_time()
        await pair.server.drain(30)
        assert trio.current_time() - began >= 8
        assert results == [bytes(1000)]


@pytest.mark.parametrize("value", [None, "3", float("nan"), True])
async def test_a_wrong_timeout_changes_nothing(value: Any) -> None:
    async with linked(leaf) as pair:
        with pytest.raises(duplex.ConfigurationError, match="timeout of drain"):
            await pair.server.drain(value)
        assert not pair.server._inside.is_draining
        assert await pair.service("leaf").value() == 7


@pytest.mark.parametrize("how", ["pinned", "opened", "balanced"])
async def test_calls_that_are_refused_again_and_again_let_others_run(how: str) -> None:
    async with linked(leaf, check=False) as pair:
        await pair.link.aclose()
        await pair.server.aclose()
        source = pair.client if how == "balanced" else pair.link
        remote = source.service("leaf").with_options(wait_for_ready=False).value
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.lowlevel.checkpoint()
                ticks += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            for _ in range(50):
                try:
                    if how == "opened":
                        async with remote.open():
                            pass
                    else:
                        await remote()
                except duplex.Unavailable:
                    pass
            nursery.cancel_scope.cancel()
        assert ticks >= 45


async def test_the_bound_side_waits_for_the_link_that_replaces_an_old_one(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_age=10)
    results: list[Any] = []
    async with linked(offers=[leaf], within=10_000, check=False, client={"keepalive": keepalive}) as pair:
        for _ in range(2000):
            results.append(await outcome_of(pair.server.service("leaf").value()))
            await trio.sleep(0.05)
    assert results == [7] * 2000


async def test_a_retry_does_not_begin_its_time_anew(autojump_clock: object) -> None:
    """The call waits for credit, its link is lost, and there is no other: one second is all it gets."""
    service = duplex.Service("service")

    @service.rpc
    async def hoard(items: duplex.ReceiveChannel[bytes]) -> None:
        await trio.sleep_forever()

    @service.rpc
    async def good() -> int:
        return 1

    limits = duplex.Limits(link_window=2000, link_buffer=0, channel_window=5000)
    async with linked(service, within=1000, check=False, server={"limits": limits}) as pair:
        async with pair.service("service").hoard.open() as call:
            await call.send(bytes(3000))
            began = trio.current_time()
            async with trio.open_nursery() as nursery:

                async def lose() -> None:
                    await trio.sleep(0.8)
                    await pair.server.aclose()

                nursery.start_soon(lose)
                with pytest.raises(duplex.DeadlineExceeded) as caught:
                    await pair.service("service").good.with_options(timeout=1.0)()
            assert trio.current_time() - began == pytest.approx(1.0)
            assert caught.value.may_have_executed is False


async def test_not_waiting_waits_for_the_first_attempt() -> None:
    async with duplex.open_peer(services=[leaf]) as server, duplex.open_peer() as client:
        client.connect_soon(await server.bind("tcp://127.0.0.1:*"))
        with fail_after(10):
            assert await client.service("leaf").with_options(wait_for_ready=False).value() == 7


async def test_a_refusal_is_forgotten_once_something_else_is_known() -> None:
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def work() -> None:
        await go.wait()

    with fail_after(20):
        async with linked(service, endpoint="tcp://127.0.0.1:*", check=False) as pair:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.link.service("service").work)
                await until(lambda: pair.server.calls())
                nursery.start_soon(pair.server.drain)
                async with duplex.open_peer(reconnect=duplex.Reconnect(initial=0.02, maximum=0.02)) as other:
                    other.connect_soon(pair.endpoint)
                    await until(lambda: "draining" in "".join(other._inside.ports.situation()))
                    go.set()
                    await until(lambda: "did not accept" in "".join(other._inside.ports.situation()))


async def test_a_cancellation_that_is_not_the_handlers_own_is_its_error() -> None:
    """Two calls share one computation; that of the first is cancelled, and only the first is told so."""
    service = duplex.Service("service")
    shared: list[outcome.Outcome[Any]] = []
    done = trio.Event()

    @service.rpc
    async def first() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            shared.append(outcome.Error(error))
            done.set()
            raise

    @service.rpc
    async def second() -> None:
        await done.wait()
        shared[0].unwrap()

    async with linked(service) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome_of(pair.link.service("service").second()))

        nursery.start_soon(call)
        with trio.move_on_after(0.05):
            await pair.link.service("service").first()
        await until(lambda: results)
        assert type(results[0]) is duplex.Internal
        assert pair.link.is_open


async def test_a_stream_that_is_opened_again_keeps_the_deadline_of_the_whole(autojump_clock: object) -> None:
    service = duplex.Service("service")
    remaining: list[float] = []

    @service.rpc(resumable=True)
    async def count(*, cursor: int = 0) -> AsyncIterator[duplex.Tracked[int, int]]:
        remaining.append(duplex.current_call().time_remaining)
        for number in range(cursor + 1, 100):
            yield duplex.Tracked(number, number)
            await trio.sleep(1)

    async with linked(service, within=1000, check=False) as pair:
        received: list[int] = []
        async with pair.service("service").count.with_options(resume=True).open() as numbers:
            while len(received) < 20:
                with trio.move_on_after(2):
                    received.append(await numbers.receive())
                if len(received) == 3:
                    await pair.client.links[0].aclose()
    assert received == list(range(1, 21))
    assert len(remaining) == 2
    assert all(seconds > 900 for seconds in remaining)


@pytest.mark.parametrize(
    ("how", "who"),
    [
        (how, who)
        for how in ("unary", "stream", "keyed")
        for who in ("the caller", "the callee", "the callee's link")
        if (how, who) != ("stream", "the caller")  # its own streams hold up no drain
    ],
)
async def test_a_handler_may_ask_its_caller_on_a_link_that_is_left(who: str, how: str) -> None:
    """Calls that run may finish, and what they ask of their caller is part of them, whichever side leaves the link."""
    asks, answers = duplex.Service("asks"), duplex.Service("answers")
    began, go = trio.Event(), trio.Event()

    @answers.rpc
    async def square(number: int) -> int:
        return number * number

    @answers.rpc
    async def count(upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @asks.rpc
    async def ask(number: int) -> int:
        began.set()
        await go.wait()
        back = duplex.current_call().link.service("answers")
        async with back.count.open(number) as call:
            counted = [found async for found in call]
        squared: int = await back.square(number)
        return squared + len(counted)

    @asks.rpc
    async def stream(number: int) -> AsyncIterator[int]:
        yield await ask(number)

    async with linked(asks, offers=[answers], check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            remote = pair.link.service("asks")
            if how == "stream":
                async with remote.stream.open(5) as opened:
                    results.append(await outcome_of(opened.receive()))
            else:
                method = remote.ask if how == "unary" else remote.ask.with_options(idempotency_key="five")
                results.append(await outcome_of(method(5)))

        nursery.start_soon(call)
        await began.wait()
        if who == "the callee's link":
            pair.back.leave()
        else:
            nursery.start_soon((pair.client if who == "the caller" else pair.server).drain)
        await until(lambda: pair.link.statistics().is_leaving and pair.back.statistics().is_leaving)
        go.set()
        await until(lambda: results)
        assert results == [30]


async def test_what_a_handler_leaves_behind_is_no_part_of_its_call() -> None:
    """A task that goes on after the call, and a link that is left: the task is told, and safely."""
    asks, answers = duplex.Service("asks"), duplex.Service("answers")
    go = trio.Event()
    results: list[Any] = []

    @answers.rpc
    async def value() -> int:
        return 7

    async with linked(asks, offers=[answers], check=False) as pair, trio.open_nursery() as nursery:

        async def later(link: Any) -> None:
            await go.wait()
            results.append(await outcome_of(link.service("answers").value()))

        @asks.rpc
        async def begin() -> None:
            nursery.start_soon(later, duplex.current_call().link)

        pair.server._inside.services.handlers["asks.begin"] = asks.methods["begin"]
        await pair.link.service("asks").begin()
        hang = trio.Event()

        @answers.rpc
        async def wait() -> None:
            await hang.wait()

        pair.client._inside.services.handlers["answers.wait"] = answers.methods["wait"]
        nursery.start_soon(pair.back.service("answers").wait)
        await until(lambda: pair.client.calls())
        nursery.start_soon(pair.client.drain)
        await until(lambda: pair.back.statistics().is_leaving)
        go.set()
        await until(lambda: results)
        hang.set()
    (error,) = results
    assert type(error) is duplex.Unavailable
    assert error.may_have_executed is False
