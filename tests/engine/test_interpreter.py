"""Threads that are to begin get the interpreter, however busy the event loop is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

import duplex
from duplex.engine.threads import _interpreter
from duplex.engine.threads._interpreter import Interpreter
from tests.engine.helpers import GUARD, Pair, linked

service = duplex.Service("svc")


@service.rpc
def plain(number: int) -> int:
    return number + 1


@service.rpc
def steps(count: int) -> Iterator[int]:
    yield from range(count)


@contextlib.asynccontextmanager
async def _busy_server() -> AsyncIterator[Pair]:
    """A server whose event loop never sleeps."""
    async with linked(service) as pair, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def be_busy() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        yield pair
        nursery.cancel_scope.cancel()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """For whom the loop has waited; it waits until they have begun, however long that takes."""
    waited: list[object] = []
    let_go = Interpreter.let_go

    def note(self: Interpreter) -> None:
        waited.extend(who for who in self.waiting if who not in waited[-1:])
        let_go(self)
        assert not self.waiting

    monkeypatch.setattr(_interpreter, "LONGEST", GUARD)
    monkeypatch.setattr(Interpreter, "let_go", note)
    return waited


@pytest.mark.plain_wire("looks into the server's engine")
async def test_a_busy_loop_waits_for_handlers_that_are_to_begin(waited: list[object]) -> None:
    async with _busy_server() as pair:
        for number in range(5):
            assert await pair.service("svc").plain(number) == number + 1
            assert len(waited) == number + 1
        assert not pair.server._inside.flusher.interpreter.waiting


@pytest.mark.plain_wire("looks into the server's engine")
async def test_a_busy_loop_waits_for_generators_that_are_to_make_a_step(waited: list[object]) -> None:
    async with _busy_server() as pair:
        async with pair.service("svc").steps.open(5) as stream:
            assert [number async for number in stream] == list(range(5))
        assert len(waited) == 1, "one generator"
        assert not pair.server._inside.flusher.interpreter.waiting


@pytest.mark.plain_wire("looks into the server's engine")
async def test_each_step_is_waited_for(waited: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    given = 0
    give = Interpreter.give

    def count(self: Interpreter, who: object) -> None:
        nonlocal given
        given += 1
        give(self, who)

    monkeypatch.setattr(Interpreter, "give", count)
    async with _busy_server() as pair:
        async with pair.service("svc").steps.open(5) as stream:
            assert [number async for number in stream] == list(range(5))
    assert given == 6


@pytest.mark.plain_wire("looks into the server's engine")
async def test_a_loop_that_sleeps_does_not_wait(waited: list[object]) -> None:
    async with linked(service) as pair:
        interpreter = pair.server._inside.flusher.interpreter
        interpreter.give("somebody")
        waits = len(waited)
        interpreter.before_io_wait(0.5)
        assert len(waited) == waits
        interpreter.begin("somebody")
        interpreter.end("somebody")


async def test_who_has_begun_is_not_waited_for() -> None:
    interpreter = Interpreter()
    interpreter.give("one")
    interpreter.begin("one")
    interpreter.let_go()
    assert not interpreter.waiting
    interpreter.begin("nobody's")  # late: it was given up
    interpreter.let_go()
    interpreter.stop()
    interpreter.stop()


async def test_all_are_waited_for_and_not_for_long() -> None:
    interpreter = Interpreter()
    go = threading.Event()

    def begin() -> None:
        go.wait(GUARD)
        for who in range(3):
            interpreter.begin(who)

    for who in range(4):
        interpreter.give(who)
    thread = threading.Thread(target=begin)
    thread.start()
    interpreter.let_go()
    assert list(interpreter.waiting) == [0, 1, 2, 3], "nobody has begun within LONGEST"
    go.set()
    thread.join()
    interpreter.let_go()
    assert list(interpreter.waiting) == [3]
    interpreter.end(3)
    assert not interpreter.waiting
    interpreter.stop()


async def test_who_has_begun_gets_two_moments_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may need the interpreter again to say that it has ended."""
    moments = 0

    def sleep(seconds: float) -> None:
        nonlocal moments
        assert seconds == _interpreter.MOMENT
        moments += 1

    monkeypatch.setattr("duplex.engine.threads._interpreter.time.sleep", sleep)
    interpreter = Interpreter()
    for who in ("long", "short"):
        interpreter.give(who)
        interpreter.begin(who)
    interpreter.before_io_wait(0)
    assert moments == 1, "one for all"
    interpreter.end("short")
    for _ in range(3):
        interpreter.before_io_wait(0)
    assert moments == 2
    interpreter.stop()


async def test_a_thread_that_cannot_be_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    async with linked(service) as pair:
        monkeypatch.setattr("trio._threads.start_thread_soon", refuse)
        with pytest.raises(duplex.Internal):
            await pair.service("svc").plain(1)
        async with pair.service("svc").steps.open(1) as stream:
            with pytest.raises(duplex.Internal):
                await stream.receive()
        assert not pair.server._inside.flusher.interpreter.waiting
