"""Plain generators: one thread and one context for the life of each, its close included; and what that costs others."""

from __future__ import annotations

import contextlib
import contextvars
import decimal
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.threads import _generator
from tests.engine.helpers import Pair, collect, linked, outcome, until
from tests.machine import fail_after

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
lock = threading.RLock()
plain = duplex.Service("plain")

#: More than fits in the smallest window.
PAGE = "x" * 2000


@plain.rpc
def users(count: int) -> Iterator[str]:
    token = user.set("ada")
    try:
        for _ in range(count):
            yield user.get()
    finally:
        user.reset(token)


@plain.rpc
def digits(count: int) -> Iterator[str]:
    with decimal.localcontext() as context:
        context.prec = 5
        for _ in range(count):
            yield str(decimal.Decimal(1) / 3)


@plain.rpc
def rows(count: int) -> Iterator[int]:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("create table t (i)")
        database.executemany("insert into t values (?)", [(i,) for i in range(count)])
        for (i,) in database.execute("select i from t order by i"):
            yield i
    finally:
        database.close()


@plain.rpc
def locked(count: int) -> Iterator[int]:
    with lock:
        yield from range(count)


@plain.rpc
def lookup(name: str) -> str:
    return f"{name}: {user.get()}"


def endpoint_of(scheme: str) -> str:
    return "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"


async def all_ended(pair: Pair) -> None:
    """Wait until no generator has a thread any more."""
    threads = pair.server._inside.threads
    await until(lambda: (threads.generators, threads.running, threads.waiting) == (0, 0, 0))


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("users", ["ada"] * 9),
        ("digits", ["0.33333"] * 9),
        ("rows", list(range(9))),
        ("locked", list(range(9))),
    ],
)
async def test_what_belongs_to_a_thread_or_a_context(scheme: str, name: str, expected: list[Any]) -> None:
    found: list[Any] = []

    async def read(method: Any) -> None:
        async with method.open(len(expected)) as call:
            found.append(await collect(call))

    async with linked(plain, endpoint=endpoint_of(scheme), server={"debug": True}) as pair:
        method = pair.service("plain")[name]
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(read, method)
        assert found == [expected] * 6
        async with method.open(len(expected)) as call:
            assert await call.receive() == expected[0]
        await all_ended(pair)
        assert await pair.service("plain").lookup("x") == "x: nobody"


async def test_every_step_and_the_close_are_in_one_thread(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("service")
    seen: list[tuple[str, int]] = []

    @service.rpc
    def steps(name: str) -> Iterator[int]:
        try:
            for number in range(100):
                seen.append((name, threading.get_ident()))
                yield number
        finally:
            seen.append((name, threading.get_ident()))

    async with linked(service) as pair:
        method = pair.service("service").steps
        async with method.open("a") as a, method.open("b") as b:
            for _ in range(5):
                await a.receive()
                await b.receive()
                # Others use the threads that would be free in between.
                async with method.open("c") as c:
                    await collect(c)
        await all_ended(pair)
    for name in ("a", "b"):
        assert len({ident for found, ident in seen if found == name}) == 1
    assert caplog.text == ""


async def test_generator_asks_the_event_loop() -> None:
    service, home = duplex.Service("service"), duplex.Service("home")

    @home.rpc
    async def square(number: int) -> int:
        return number * number

    @service.rpc
    def squares(count: int) -> Iterator[int]:
        link: Any = duplex.current_call().link
        for number in range(count):
            yield trio.from_thread.run(link.service("home").square, number)

    async with linked(service, offers=[home]) as pair:
        async with pair.service("service").squares.with_options(timeout=5).open(4) as call:
            assert await collect(call) == [0, 1, 4, 9]
        await all_ended(pair)


async def test_idle_generators_keep_nobody_from_a_thread() -> None:
    async with linked(plain, server={"max_threads": 1}) as pair:
        remote = pair.service("plain")
        limits = duplex.Limits()
        count = limits.channel_window  # more than fits: the generator stands still in the middle
        async with remote.users.open(count) as first, remote.users.open(count) as second:
            assert await first.receive() == await second.receive() == "ada"
            assert await remote.lookup("x") == "x: nobody"
            assert pair.server._inside.threads.generators == 2
        await all_ended(pair)


async def test_steps_count_towards_the_limit() -> None:
    service = duplex.Service("service")
    entered, go = threading.Semaphore(0), threading.Event()
    running = most = 0
    guard = threading.Lock()

    @service.rpc
    def slow() -> Iterator[int]:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        entered.release()
        go.wait(5)
        with guard:
            running -= 1
        yield 1

    async with linked(service, server={"max_threads": 2}) as pair:
        results: list[list[int]] = []

        async def read() -> None:
            async with pair.service("service").slow.open() as call:
                results.append(await collect(call))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)
            for _ in range(2):
                await until(lambda: entered.acquire(blocking=False))
            await pair.settle()
            assert pair.server._inside.threads.waiting == 3
            go.set()
        assert results == [[1]] * 5
        await all_ended(pair)
    assert most == 2


async def test_more_generators_than_there_may_be_threads_for() -> None:
    """One link alone may have nearly all of them, and what is left is for others."""
    limits = duplex.Limits(channel_window=1024)  # few steps until each waits
    async with (
        linked(plain, server={"max_threads": 1}, client={"limits": limits}) as pair,
        duplex.open_peer() as other,
    ):
        remote = pair.service("plain")
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(15):
                call = await opened.enter_async_context(remote.users.open(1 << 20))
                assert await call.receive() == "ada"
            async with remote.users.open(1) as call:
                error = await outcome(call.receive())
            assert type(error) is duplex.ResourceExhausted
            assert "max_threads" in error.message
            assert not error.may_have_executed
            assert error.retry_after == 0.1
            assert await remote.lookup("x") == "x: nobody"
            await other.connect(pair.endpoint)
            async with other.service("plain").users.open(1) as call:
                assert await collect(call) == ["ada"]
        await all_ended(pair)
        async with remote.users.open(1) as call:
            assert await collect(call) == ["ada"]
        await all_ended(pair)
        assert not pair.server._inside.threads._kept


async def test_given_up_before_its_thread_begins() -> None:
    """Whichever task runs first: the one that makes it stop, or the one that is to hold the thread."""
    async with linked(plain, server={"max_threads": 1}) as pair:
        threads = pair.server._inside.threads
        for _ in range(20):
            async with pair.service("plain").users.open(1 << 20):
                while not threads.generators:
                    await trio.lowlevel.checkpoint()
                pair.back._inside.channels.cut("a test")
            await all_ended(pair)
        assert await pair.service("plain").lookup("x") == "x: nobody"


async def test_process_without_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(plain) as pair:
        async with pair.service("plain").users.open(2) as call:
            assert await call.receive() == "ada"
            real = trio.to_thread.run_sync

            async def refuse(*_: Any, **__: Any) -> None:
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
            async with pair.service("plain").users.open(2) as refused:
                assert type(await outcome(refused.receive())) is duplex.Internal
            monkeypatch.setattr(trio.to_thread, "run_sync", real)
            assert await collect(call) == ["ada"]
        assert "can't start new thread" in caplog.text
        await all_ended(pair)


@pytest.mark.parametrize("end", ["cancel", "lose", "close", "drain"])
@pytest.mark.parametrize("how", ["in a step", pytest.param("in its close", marks=pytest.mark.slow)])
async def test_generator_that_blocks_holds_up_nobody(
    how: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who gives the call up, or ends the link or the peer, is not kept by it, and it is closed when it can be."""
    service = duplex.Service("service")
    go, closed = threading.Event(), threading.Event()

    @service.rpc
    def blocked() -> Iterator[str]:
        try:
            yield PAGE
            if how == "in a step":
                go.wait(100)
            yield PAGE  # where the window is full
            yield PAGE
        finally:
            if how == "in its close":
                go.wait(100)
            closed.set()
            raise ValueError("while it was closed")

    def is_there(threads: Any) -> bool:
        return bool(threads.generators == 1 and threads.running == (how == "in a step"))

    limits = duplex.Limits(channel_window=1024)
    async with duplex.open_peer(limits=limits) as client:
        async with duplex.open_peer(services=[service, plain]) as server:
            threads = server._inside.threads
            link = await client.connect(await server.bind("memory://*"))
            with fail_after(8):
                async with client.service("service").blocked.open() as call:
                    if how == "in a step":
                        assert await call.receive() == PAGE
                    await until(lambda: is_there(threads))
                    await link.ping()
                    # Between two steps no thread runs either, and another step may have begun.
                    await until(lambda: is_there(threads))
                    if end == "lose":
                        server.links[0]._inside.lose("a test")
                    elif end == "close":
                        await server.aclose()
                    elif end == "drain":
                        await server.drain(0.1)
                if end == "cancel":
                    await until(lambda: not server.links[0].statistics().incoming)
                    assert await client.service("plain").lookup("x") == "x: nobody"
                    assert client.links == [link]
                assert not closed.is_set()
        with fail_after(5):
            go.set()
            await until(lambda: (threads.generators, threads.running) == (0, 0))
        assert closed.is_set()
    assert "the generator of service.blocked failed while it was closed" in caplog.text


async def test_failing_while_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("service")

    @service.rpc
    def stubborn(how: str) -> Iterator[Any]:
        try:
            yield 1
            yield object()  # which cannot travel
        finally:
            if how == "raise":
                raise LookupError("in finally")
            if how == "yield":
                yield 2

    async with linked(service, server={"debug": True}) as pair:
        for how, text in (("raise", "in finally"), ("yield", "ignored GeneratorExit")):
            async with pair.service("service").stubborn.open(how) as call:
                assert await call.receive() == 1
                with pytest.raises(duplex.Internal, match=text):
                    await call.receive()
        await all_ended(pair)
    assert "failed while it was closed" not in caplog.text, "the caller was told"


async def test_each_generator_has_a_context_of_its_own() -> None:
    service = duplex.Service("service")

    @service.rpc
    def spoil(name: str) -> Iterator[list[str]]:
        before = user.get()
        user.set(name)
        while True:
            yield [before, user.get()]

    async with linked(service) as pair:
        method = pair.service("service").spoil
        async with method.open("a") as a, method.open("b") as b:
            for _ in range(3):
                assert await a.receive() == ["nobody", "a"]
                assert await b.receive() == ["nobody", "b"]
        await all_ended(pair)


async def test_generator_ends_with_its_peer_before_a_thread_was_there() -> None:
    service = duplex.Service("service")
    entered, go = threading.Event(), threading.Event()

    @service.rpc
    def blocked() -> None:
        entered.set()
        go.wait(100)

    async with (
        duplex.open_peer(services=[service, plain], max_threads=1) as server,
        duplex.open_peer() as client,
    ):
        await client.connect(await server.bind("memory://*"))
        async with client.service("service").blocked.open(), client.service("plain").users.open(1):
            await until(entered.is_set)
            await until(lambda: server._inside.threads.waiting == 1)
            with fail_after(5):
                await server.aclose()
                await until(lambda: server._inside.threads.waiting == 0)
        go.set()
        await until(lambda: server._inside.threads.running == 0)


@pytest.mark.parametrize("steps", [0, 1])
async def test_refusal_of_a_step_says_whether_the_generator_had_begun(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    async with linked(plain) as pair:
        threads = pair.server._inside.threads
        acquire = threads.acquire
        made = 0

        async def acquire_some(borrower: Any) -> None:
            nonlocal made
            if made == steps:
                raise threads.refusal()
            made += 1
            await acquire(borrower)

        monkeypatch.setattr(type(threads), "acquire", lambda self, borrower: acquire_some(borrower))
        async with pair.service("plain").users.open(3) as call:
            for _ in range(steps):
                assert await call.receive() == "ada"
            with pytest.raises(duplex.ResourceExhausted) as caught:
                await call.receive()
        assert caught.value.may_have_executed is (steps > 0)
        assert caught.value.retry_after == pytest.approx(0.1)


async def test_inline_generator_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    service = duplex.Service("service")

    @service.rpc(inline=True)
    def numbers(count: int) -> Iterator[int]:
        yield from range(count)

    async with linked(service) as pair:
        taken: list[Any] = []
        monkeypatch.setattr(type(pair.server._inside.threads), "keep_for_generator", taken.append)
        async with pair.service("service").numbers.open(3) as call:
            assert await collect(call) == [0, 1, 2]
        await pair.settle()
        assert taken == []


async def test_a_cancelled_call_lasts_until_its_generator_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_generator, "CLEAN_UP", 60.0)
    service = duplex.Service("service")
    closing, may_end = threading.Event(), threading.Event()

    @service.rpc
    def pages() -> Iterator[str]:
        try:
            while True:
                yield PAGE
        finally:
            closing.set()
            assert may_end.wait(10)

    limits = duplex.Limits(channel_window=1024, link_window=65536)
    async with linked(service, client={"limits": limits}) as pair:
        async with pair.service("service").pages.open() as call:
            await call.receive()
            await until(lambda: pair.back._inside.credit.waiters)
        await until(closing.is_set)
        await pair.settle()
        assert pair.back.statistics().running == 1
        may_end.set()
        await until(lambda: not pair.back.statistics().running)
        await all_ended(pair)
