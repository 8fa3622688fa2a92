"""What could wait for ever goes on, or is told so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import duplex
from duplex.engine import _threads
from tests.engine.helpers import linked, outcome, until

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
        assert pair.server.threads.calling == pair.client.threads.calling == 0
        assert pair.server.threads.running == pair.client.threads.running == 0


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
            await until(lambda: pair.server.threads.calling == 2)
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
            await until(lambda: pair.server.threads.waiting)
            await trio.sleep(4 * _threads.STILL)  # nothing is to happen in it, and no event says so
            assert order == ["a begins"]
            go.set()
    assert order == ["a begins", "a ends", "b begins", "b ends"]
