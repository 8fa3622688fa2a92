"""What runs coroutines of clients, above all the open loop: nothing is left out because others were slow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from benchmarks.peers import _runtimes
from benchmarks.peers._runtimes import Asyncio, Runtime, Threads, drive
from benchmarks.peers._timer import Timer
from benchmarks.peers._trio import Trio

RUNTIMES = [Trio(), Asyncio(), Threads()]


def sleep_of(runtime: Runtime) -> Callable[[float], object]:
    """The way to wait in a runtime, without letting others wait."""
    if isinstance(runtime, Trio):
        return trio.sleep
    if isinstance(runtime, Asyncio):
        return asyncio.sleep

    async def sleep(seconds: float) -> None:
        time.sleep(seconds)  # threads do not hold one another up

    return sleep


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: type(runtime).__name__)
def test_all_is_done_at_once(runtime: Runtime) -> None:
    done = []

    async def main() -> str:
        async def work() -> None:
            done.append(1)

        await runtime.together([work] * 20)
        return "result"

    assert runtime.run(main) == "result"
    assert len(done) == 20


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: type(runtime).__name__)
def test_failures_are_not_lost(runtime: Runtime) -> None:
    async def broken() -> None:
        raise ArithmeticError("broken")

    async def at_once() -> None:
        await runtime.together([broken])

    async def at_fixed_times() -> None:
        await runtime.paced(broken, 100, 0.1, recorded.append)

    recorded: list[float] = []
    for main in (at_once, at_fixed_times):
        with pytest.raises((ArithmeticError, ExceptionGroup), match=r"broken|Trio nursery") as caught:
            runtime.run(main)
        assert "broken" in repr(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: type(runtime).__name__)
def test_what_is_kept_stays_open_until_the_stack_closes(runtime: Runtime) -> None:
    events = []

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        events.append("open")
        try:
            yield len(events)
        finally:
            events.append("close")

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            assert await runtime.keep(stack, [opened, opened]) == [1, 2]
            assert events == ["open", "open"]
        assert events == ["open", "open", "close", "close"]

    runtime.run(main)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: type(runtime).__name__)
def test_a_stall_delays_all_that_was_due_in_it(runtime: Runtime) -> None:
    """A server that stands still for 0.1 s, at 500 calls a second: 50 calls are late and not one."""
    latencies: list[float] = []
    server = threading.Lock()
    stalled: list[bool] = []

    async def call() -> None:
        with server:
            if not stalled:
                stalled.append(True)
                time.sleep(0.1)  # the server's stall, in real time as the open loop's clock is

    async def main() -> None:
        await runtime.paced(call, 500, 0.3, latencies.append)

    runtime.run(main)
    assert len(latencies) == 150
    assert len([latency for latency in latencies if latency > 0.02]) >= 30
    assert max(latencies) >= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: type(runtime).__name__)
def test_what_is_not_done_in_time_is_recorded_all_the_same(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_runtimes, "PATIENCE", 0.1)
    monkeypatch.setattr(_runtimes, "AT_ONCE", 4)
    monkeypatch.setattr(_runtimes, "THREADS", 4)
    latencies: list[float] = []
    sleep = sleep_of(runtime)

    async def call() -> None:
        await sleep(0.05)  # type: ignore[misc]

    async def main() -> None:
        await runtime.paced(call, 1000, 0.1, latencies.append)

    runtime.run(main)
    assert len(latencies) == 100
    assert len([latency for latency in latencies if latency > 0.1]) >= 50


def test_driving_needs_coroutines_that_do_not_suspend() -> None:
    async def value() -> int:
        return 7

    async def suspends() -> None:
        await asyncio.sleep(0)

    assert drive(value()) == 7
    with pytest.raises(RuntimeError, match="suspended"):
        drive(suspends())


async def test_timer_becomes_readable_when_it_is_time() -> None:
    timer = Timer()
    try:
        assert not timer.arm(time.perf_counter() - 1)
        due = time.perf_counter() + 0.01
        assert timer.arm(due)
        await trio.lowlevel.wait_readable(timer.fd)
        assert time.perf_counter() >= due
        timer.clear()
    finally:
        timer.close()
