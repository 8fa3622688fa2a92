"""How calls with middleware end."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.serving import Invocation, ServedChannel
from tests.engine.helpers import collect, linked, quiet, until
from tests.engine.layered import STREAMED, STREAMING, UNARY, every_kind, through, turn_into_denial, use

pytestmark = pytest.mark.usefixtures("others_out_of_sight")

# -- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["waiting", "thread", "generator"])
async def test_cancellation_passes_through(method: str) -> None:
    seen: list[Any] = []
    begun = trio.Event()

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        try:
            begun.set()
            return await next(call)
        except trio.Cancelled:
            seen.append(call.cancelled_by)
            raise

    go = threading.Event()
    service = duplex.Service("svc", middleware=[note])

    @service.rpc
    async def waiting() -> None:
        await trio.sleep_forever()

    @service.rpc
    def thread() -> None:
        go.wait()

    @service.rpc
    async def generator() -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    async with linked(service) as pair:
        async with getattr(pair.service("svc"), method).open():
            await begun.wait()
        await until(lambda: seen)
        go.set()
        assert seen == ["remote"]


@pytest.mark.parametrize("method", ["waiting", "thread"])
async def test_middleware_may_give_less_time(method: str) -> None:
    async def hurry(call: duplex.ServedCall, next: duplex.Next) -> Any:
        with trio.move_on_after(0.01):
            return await next(call)
        return "too late"

    go = threading.Event()
    service = duplex.Service("svc", middleware=[hurry])

    @service.rpc
    async def waiting() -> str:
        await trio.sleep_forever()
        raise AssertionError

    @service.rpc
    def thread() -> str:
        go.wait()
        return "in time"

    async with linked(service) as pair:
        assert await getattr(pair.service("svc"), method)() == "too late"
        go.set()


async def test_notifications_pass() -> None:
    seen: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        seen.append((call.notify, await next(call)))

    async with linked(every_kind(note)) as pair:
        await pair.service("svc").coroutine.notify("word")
        await until(lambda: seen)
        assert seen == [(True, "word None None nothing")]


async def test_results_with_live_values_pass() -> None:
    service = duplex.Service("svc", middleware=[turn_into_denial])

    @service.rpc
    async def adder(start: int) -> Callable[[int], int]:
        return lambda number: start + number

    @service.rpc(inline=True, name="inline_adder")
    def inline_adder(start: int) -> Callable[[int], int]:
        return lambda number: start + number

    async with linked(service) as pair:
        for method in ("adder", "inline_adder"):
            async with getattr(pair.service("svc"), method).open(1) as call:
                assert await (await call.result())(2) == 3


async def test_callbacks_and_built_in_services_have_the_middleware_of_their_peer() -> None:
    seen: list[str] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        seen.append(call.method)
        return await next(call)

    service = duplex.Service("svc")

    @service.rpc
    async def apply(function: duplex.Callback[[int], int]) -> int:
        return await function(1)

    async with linked(service, client={"middleware": [note]}) as pair:
        assert await pair.service("svc").apply(lambda number: number + 1) == 2

        async def add(number: int) -> int:
            return number + 2

        assert await pair.service("svc").apply(add) == 3
        await pair.back.service("duplex.health").check("")
        assert seen == ["callback", "callback", "duplex.health.check"]


async def test_methods_with_other_options_pass() -> None:
    service = duplex.Service("svc", middleware=[through("name")])

    @service.rpc(overflow="drop_oldest")
    async def measure() -> AsyncIterator[str]:
        yield "value"

    @service.rpc(overflow="drop_newest")
    async def gather(values: duplex.ReceiveChannel[str]) -> list[str]:
        return [value async for value in values]

    async with linked(service) as pair:
        async with pair.service("svc").measure.open() as call:
            assert await collect(call) == ["value>name"]
        async with pair.service("svc").gather.open() as call:
            await call.send("value")
            await call.send_eof()
            assert await call.result() == ["value>name"]


# -- idempotency keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", UNARY)
async def test_a_key_is_run_once_with_its_middleware(method: str) -> None:
    runs: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        runs.append(call.metadata["user"])
        call.trailers["run"] = str(len(runs))
        return await next(call)

    async with linked(every_kind(note)) as pair:
        for user in ("ann", "bob"):
            result = await use(pair, method, idempotency_key="k", metadata={"user": user})
            assert result == ["word", "ann None nothing"]
        assert runs == ["ann"]


async def test_what_middleware_answers_for_a_key_is_not_remembered() -> None:
    """The handler has not run, so the next attempt may."""
    answers = iter(["of middleware"])

    async def answer(call: duplex.ServedCall, next: duplex.Next) -> Any:
        return f"word {found}" if (found := builtin_next(answers, None)) else await next(call)

    async with linked(every_kind(answer)) as pair:
        assert await use(pair, "coroutine", idempotency_key="k") == ["word", "of middleware"]
        for _ in range(2):
            assert await use(pair, "coroutine", idempotency_key="k") == ["word", "None None nothing"]


builtin_next = next


async def test_a_function_that_was_given_up_in_its_thread_ends_without_middleware() -> None:
    """Its result counts all the same; the middleware has ended with the cancellation."""
    go = threading.Event()
    begun = threading.Event()
    seen: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        try:
            return await next(call)
        finally:
            seen.append(call.cancelled_by)

    service = duplex.Service("svc", middleware=[note])

    @service.rpc
    def slow() -> int:
        begun.set()
        go.wait()
        return 7

    async with linked(service) as pair:
        remote = pair.service("svc").with_options(idempotency_key="k").slow
        async with remote.open():
            await until(begun.is_set)
        await until(lambda: seen)
        go.set()
        assert await remote() == 7
        assert seen == ["remote"]


async def test_calls_with_middleware_leave_nothing_to_the_garbage_collector() -> None:
    def served() -> int:
        return sum(
            isinstance(thing, (Invocation, ServedChannel, duplex.ServedCall)) for thing in gc.get_objects()
        )

    async with linked(every_kind(turn_into_denial, through("name"))) as pair:
        await use(pair, "coroutine")
        gc.collect()
        before = served()  # What other tests' errors still hold.
        gc.disable()
        try:
            for method in (*UNARY, *STREAMED, *STREAMING):
                for _ in range(5):
                    await use(pair, method)
            await quiet(pair.link, pair.back)
            assert served() - before <= 1
        finally:
            gc.enable()
