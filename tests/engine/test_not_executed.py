"""Whether a failed call may have been executed is told truly: what ran is never made again by itself, and what was
refused before its handler began says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import linked, outcome
from tests.engine.raw import HELLO, RawDealer
from tests.engine.till import Till, given_up
from tests.machine import fail_after


@pytest.fixture
def till() -> Till:
    return Till()


FORGED = {"duplex-refused": "1", "duplex-retry-after": "1", "duplex-anything": "x", "plain": "kept"}

GREETING, OPEN, CLOSE, CANCEL = 0, 7, 10, 11
UNARY = 3
NONE = b"\x91\x90"


class Work:
    """Handlers of every kind that fail after they have begun, in the name of the protocol."""

    def __init__(self, how: str) -> None:
        self.runs = 0
        self.service = duplex.Service("work")

        def fail() -> None:
            self.runs += 1
            error = duplex.Unavailable("half done")
            if how == "error":
                error.metadata = FORGED
            else:
                duplex.current_call().trailers.update(FORGED)
            raise error

        @self.service.rpc
        async def a_coroutine() -> None:
            fail()

        @self.service.rpc
        def a_thread() -> None:
            fail()

        @self.service.rpc(inline=True)
        def inline() -> None:
            fail()

        @self.service.rpc
        async def a_stream() -> AsyncIterator[int]:
            fail()
            yield 1

        @self.service.rpc
        def a_generator() -> Iterator[int]:
            fail()
            yield 1


async def _take(method: Any, streams: bool) -> None:
    if not streams:
        await method()
        return
    async with method.open() as call:
        await call.receive()


@pytest.mark.parametrize("how", ["trailers", "error"])
@pytest.mark.parametrize("method", ["a_coroutine", "a_thread", "inline", "a_stream", "a_generator"])
@pytest.mark.parametrize("keyed", [False, True])
async def test_handlers_do_not_speak_for_the_protocol(method: str, how: str, keyed: bool) -> None:
    work = Work(how)
    streams = method in ("a_stream", "a_generator")
    if keyed and streams:
        return  # there are none
    with fail_after(10):
        async with linked(work.service) as pair:
            remote = pair.service("work")
            if keyed:
                remote = remote.with_options(idempotency_key="k")
            error: Any = await outcome(_take(remote[method], streams))
    assert type(error) is duplex.Unavailable
    assert work.runs == 1
    assert error.may_have_executed
    assert error.metadata == {"plain": "kept"}
    assert error.retry_after is None


async def test_trailers_of_a_result_are_the_handlers_own(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("s")

    @service.rpc
    async def well() -> int:
        duplex.current_call().trailers.update(FORGED)
        return 1

    async with linked(service) as pair:
        for remote in (pair.service("s"), pair.service("s").with_options(idempotency_key="k")):
            async with remote.well.open() as call:
                assert await call.result() == 1
                assert call.trailers == {"plain": "kept"}
    assert (
        "keys that begin with 'duplex-' belong to the protocol: duplex-refused, duplex-retry-after"
        in caplog.text
    )


async def test_a_gateway_passes_on_what_it_was_told() -> None:
    """The call behind it was refused. It was not."""
    runs = 0
    gateway = duplex.Service("gateway")
    behind = duplex.Service("behind")

    async with linked(behind) as pair, duplex.open_peer() as client:

        @gateway.rpc
        async def call() -> None:
            nonlocal runs
            runs += 1
            try:
                await pair.service("behind").nothing()
            except duplex.Unimplemented as error:
                duplex.current_call().trailers.update(error.metadata)
                failure = duplex.Unavailable("what is behind it failed")
                failure.metadata = error.metadata
                failure.retry_after = 3
                raise failure from None

        pair.client.add_service(gateway)
        await client.connect(await pair.client.bind("memory://*"))
        error: Any = await outcome(client.service("gateway").call())
        assert type(error) is duplex.Unavailable
        assert error.may_have_executed
        assert error.retry_after == 3
        assert runs == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "kind"),
        [
            (lambda s: s.nothing(), duplex.Unimplemented),
            (lambda s: s.add("one"), duplex.InvalidArgument),
            (lambda s: s.add(), duplex.InvalidArgument),
            (lambda s: s.add(1, 2, 3), duplex.InvalidArgument),
            (lambda s: s.count(3), duplex.InvalidArgument),
            (lambda s: s.total(), duplex.InvalidArgument),
            (lambda s: s.with_options(idempotency_key="k").count(3), duplex.InvalidArgument),
            (lambda s: s.with_options(idempotency_key="k").add("one"), duplex.InvalidArgument),
        ],
        ids=["method", "type", "missing", "many", "streams out", "streams in", "keyed stream", "keyed type"],
    )
    async def test_are_told(self, call: Callable[[Any], Any], kind: type[duplex.RPCError]) -> None:
        service = duplex.Service("s")
        runs = 0

        @service.rpc
        async def add(a: int) -> int:
            nonlocal runs
            runs += 1
            return a

        @service.rpc
        async def count(n: int) -> AsyncIterator[int]:
            nonlocal runs
            runs += 1
            yield n

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            nonlocal runs
            runs += 1
            return 0

        async with linked(service) as pair:
            error: Any = await outcome(call(pair.service("s")))
        assert type(error) is kind
        assert not error.may_have_executed
        assert not runs

    @pytest.mark.parametrize("max_metadata", [0, 46, 47])
    async def test_are_told_where_there_is_room(
        self, max_metadata: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = duplex.Service("s")

        @service.rpc
        async def add(a: int) -> int:
            return a

        caplog.set_level(logging.WARNING)
        async with linked(service, client={"limits": duplex.Limits(max_metadata=max_metadata)}) as pair:
            for call in (pair.service("s").nothing(), pair.service("s").add("one")):
                error: Any = await outcome(call)
                assert error.may_have_executed == (max_metadata < 47)
        assert not caplog.records

    async def test_of_what_was_cancelled_before_its_turn(self) -> None:
        service = duplex.Service("s")
        begun = trio.Event()

        @service.rpc
        async def sleep() -> None:
            begun.set()
            await trio.sleep_forever()

        with fail_after(10):
            async with duplex.open_peer(services=[service]) as peer:
                with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                    raw.say(HELLO)
                    await raw.commands(GREETING)
                    raw.say([OPEN, 1, "s.sleep", UNARY, NONE], [CANCEL, 1])
                    [answer] = await raw.commands(CLOSE)
                    assert answer[1:3] == [1, 1]
                    assert "duplex-refused" in answer[7]
                    assert not begun.is_set()
                    raw.say([OPEN, 3, "s.sleep", UNARY, NONE])
                    await begun.wait()
                    raw.say([CANCEL, 3])
                    answer = (await raw.commands(CLOSE, 2))[1]
                    assert answer[1:3] == [3, 1]
                    assert len(answer) < 8 or not answer[7]


async def test_a_key_whose_first_run_was_cut_short_was_executed(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for it is refused the second run before that begins, but the first did something."""
    async with linked(till.service) as pair:
        workers = pair.server._inside.workers
        submit = workers.submit

        def submit_and_cut(call: Any, link: Any) -> None:
            if till.runs:
                call.cut(duplex.StatusCode.UNAVAILABLE, "too late")
            submit(call, link)

        monkeypatch.setattr(workers, "submit", submit_and_cut)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.01):
                await till.keyed(pair).slow_to_stop()
            error: Any = None

            async def wait() -> None:
                nonlocal error
                error = await outcome(
                    pair.link.service("till").with_options(idempotency_key="k").slow_to_stop()
                )

            nursery.start_soon(wait)
            await pair.settle()
            till.go.set()
        assert till.runs == 1
        assert type(error) is duplex.Unavailable
        assert error.may_have_executed


async def test_a_key_whose_second_run_gets_no_thread_was_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one began and was cut short."""
    service = duplex.Service("s")
    runs = 0
    began, go = threading.Event(), threading.Event()

    @service.rpc
    def work() -> None:
        nonlocal runs
        runs += 1
        began.set()
        go.wait(10)
        trio.from_thread.check_cancelled()

    async with linked(service) as pair:
        method = pair.service("s").work.with_options(idempotency_key="k")
        threads = pair.server._inside.threads

        async def refuse(_: object) -> None:
            raise threads.refusal()

        await given_up(began.is_set, method)
        errors: list[Any] = []

        async def wait() -> None:
            errors.append(await outcome(method()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await pair.settle()
            monkeypatch.setattr(threads, "acquire", refuse)
            go.set()
        assert runs == 1
        assert type(errors[0]) is duplex.ResourceExhausted
        assert errors[0].may_have_executed
        # One that nothing was done for says so.
        error = await outcome(method.with_options(idempotency_key="other")())
        assert type(error) is duplex.ResourceExhausted
        assert not error.may_have_executed


async def test_an_item_that_is_too_large_is_not_the_call() -> None:
    """The call runs; only its item was not sent."""
    service = duplex.Service("s")
    runs = 0

    @service.rpc
    async def total(numbers: duplex.ReceiveChannel[bytes]) -> int:
        nonlocal runs
        runs += 1
        return sum([len(number) async for number in numbers])

    @service.rpc
    async def size(data: bytes) -> int:
        return len(data)

    large = bytes(2000)
    async with linked(service, server={"limits": duplex.Limits(max_message=1024)}) as pair:
        async with pair.service("s").total.open() as call:
            await call.send(b"small")
            with pytest.raises(duplex.MessageTooLarge) as caught:
                await call.send(large)
            assert caught.value.may_have_executed
            await call.send_eof()
            assert await call.result() == 5
        assert runs == 1
        with pytest.raises(duplex.MessageTooLarge) as caught:
            await pair.service("s").size(large)
        assert not caught.value.may_have_executed


async def test_a_stream_that_cannot_go_on_has_begun() -> None:
    """Whoever would go on with it refuses, but it ran elsewhere."""
    service = duplex.Service("s")
    other = duplex.Service("s")

    @service.rpc(resumable=True)
    async def ticks(*, cursor: int = 0) -> AsyncIterator[duplex.Tracked[int, int]]:
        yield duplex.Tracked(1, 1)
        await trio.sleep_forever()

    @other.rpc(name="ticks")
    async def not_resumable() -> AsyncIterator[int]:
        yield 1

    with fail_after(10):
        async with duplex.open_peer() as client:
            async with duplex.open_peer(services=[service]) as server:
                await client.connect(await server.bind("memory://*"))
                async with client.service("s").ticks.with_options(resume=True).open() as stream:
                    assert await stream.receive() == 1
                    async with duplex.open_peer(services=[other]) as instead:
                        await client.connect(await instead.bind("memory://*"))
                        await server.aclose()
                        with pytest.raises(duplex.InvalidArgument, match="not resumable") as caught:
                            await stream.receive()
                    assert "duplex-refused" in caught.value.metadata
                    assert caught.value.may_have_executed
