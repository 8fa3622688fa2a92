"""Middleware of the serving side: what it sees of each kind of call, and what it may answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import collect, linked, outcome, until
from tests.engine.layered import STREAMED, STREAMING, UNARY, every_kind, told, turn_into_denial, use


@pytest.mark.parametrize("where", ["peer", "service", "method"])
@pytest.mark.parametrize("method", [*UNARY, *STREAMED, *STREAMING])
async def test_middleware_is_around_the_handler(method: str, where: str) -> None:
    log: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        token = told.set("told")
        call.metadata = {**call.metadata, "user": "ann"}
        call.state["user"] = "state"
        log.append((call.method, call.peer.name))
        result = await next(call)
        log.append(result)
        call.trailers["took"] = "1"
        told.reset(token)
        return result

    service = every_kind(
        *([note] if where == "service" else ()), middleware=[note] if where == "method" else ()
    )
    options = {"middleware": [note] if where == "peer" else ()}
    async with linked(service, server=options) as pair:
        for _ in range(2):  # begun by the task that receives, and not
            assert await use(pair, method) == ["word", "ann state told"]
            result = {"collected": ["word", "ann state told"]}.get(method)
            assert log == [
                (f"svc.{method}", "client"),
                "word ann state told" if method in UNARY else result,
            ]
            log.clear()
        async with getattr(pair.service("svc"), method).open(
            *([] if method in STREAMING else ["word"])
        ) as call:
            if method in STREAMING:
                await call.send_eof()
            await (collect(call) if method not in (*UNARY, "collected") else call.result())
            assert call.trailers == {"took": "1"}


async def test_the_first_is_the_outermost() -> None:
    order: list[str] = []

    def named(name: str) -> duplex.ServingMiddleware:
        async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
            order.append(name)
            try:
                return [name, await next(call)]
            finally:
                order.append(f"/{name}")

        return middleware

    service = duplex.Service("svc", middleware=[named("service 1"), named("service 2")])

    @service.rpc(middleware=[named("method 1"), named("method 2")])
    async def run() -> str:
        order.append("handler")
        return "result"

    async with linked(service, server={"middleware": [named("peer 1"), named("peer 2")]}) as pair:
        result = await pair.service("svc").run()
    layers = ["peer 1", "peer 2", "service 1", "service 2", "method 1", "method 2"]
    assert order == [*layers, "handler", *(f"/{name}" for name in reversed(layers))]
    for name in layers:
        assert result[0] == name
        result = result[1]
    assert result == "result"


async def test_methods_without_are_left_alone() -> None:
    service = duplex.Service("svc")
    seen: list[str] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        seen.append(call.method)
        return await next(call)

    @service.rpc(middleware=[note])
    async def noted() -> None: ...

    @service.rpc
    async def plain() -> None: ...

    async with linked(service) as pair:
        await pair.service("svc").plain()
        await pair.service("svc").noted()
    assert seen == ["svc.noted"]


async def test_current_call_is_the_call_of_the_middleware() -> None:
    calls: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        calls.append(call)
        calls.append(duplex.current_call())
        return await next(call)

    service = duplex.Service("svc", middleware=[note])

    @service.rpc
    async def run() -> None:
        calls.append(duplex.current_call())

    async with linked(service) as pair:
        await pair.service("svc").run()
        assert isinstance(calls[0], duplex.CallContext)
        assert calls[0] is calls[1] is calls[2]


# -- errors --------------------------------------------------------------------------------------------


async def deny_afterwards(call: duplex.ServedCall, next: duplex.Next) -> Any:
    await next(call)
    call.trailers["took"] = "1"
    raise duplex.PermissionDenied("after the fact")


@pytest.mark.parametrize("method", [*UNARY, *STREAMED, *STREAMING])
async def test_an_error_after_the_fact_is_the_answer(method: str) -> None:
    async with linked(every_kind(deny_afterwards)) as pair:
        error = await outcome(use(pair, method))
        assert isinstance(error, duplex.PermissionDenied)
        assert error.message == "after the fact"
        assert error.metadata == {"took": "1"}


@pytest.mark.parametrize("flavor", ["coroutine", "thread", "inline", "generator"])
async def test_errors_of_handlers_are_seen_and_may_be_told_as_others(flavor: str) -> None:
    service = duplex.Service("svc", middleware=[turn_into_denial])

    if flavor == "generator":

        @service.rpc(name="fail")
        async def fail_later() -> AsyncIterator[int]:
            yield 1
            raise ZeroDivisionError

    elif flavor == "coroutine":

        @service.rpc(name="fail")
        async def fail_in_task() -> int:
            raise ZeroDivisionError

    else:

        @service.rpc(name="fail", inline=flavor == "inline")
        def fail() -> int:
            raise ZeroDivisionError

    async with linked(service) as pair:
        if flavor == "generator":
            async with pair.service("svc").fail.open() as call:
                assert await call.receive() == 1
                error = await outcome(call.receive())
        else:
            error = await outcome(pair.service("svc").fail())
        assert isinstance(error, duplex.PermissionDenied)
        assert error.message == "the handler raised ZeroDivisionError()"


async def test_errors_may_be_turned_into_results() -> None:
    async def forgive(call: duplex.ServedCall, next: duplex.Next) -> Any:
        try:
            return await next(call)
        except duplex.NotFound:
            return None

    service = duplex.Service("svc", middleware=[forgive])

    @service.rpc
    async def find() -> int:
        raise duplex.NotFound("no")

    async with linked(service) as pair:
        assert await pair.service("svc").find() is None


async def test_an_unexpected_error_of_middleware_is_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(call: duplex.ServedCall, next: duplex.Next) -> Any:
        raise ZeroDivisionError

    async with linked(every_kind(fail)) as pair:
        error = await outcome(pair.service("svc").coroutine("word"))
        assert isinstance(error, duplex.Internal)
    assert "the handler of svc.coroutine failed" in caplog.text


# -- before the handler --------------------------------------------------------------------------------


async def deny(call: duplex.ServedCall, next: duplex.Next) -> Any:
    raise duplex.PermissionDenied("no")


@pytest.mark.parametrize("method", [*UNARY, *STREAMED, *STREAMING])
async def test_who_is_turned_away_learns_nothing_of_the_method(method: str) -> None:
    """Not even whether the arguments are right. And the call was not executed, so it may be repeated."""
    async with linked(every_kind(deny)) as pair:
        async with getattr(pair.service("svc"), method).open(1, 2, 3) as call:
            error = await outcome(call.result())
        assert isinstance(error, duplex.PermissionDenied)
        assert error.may_have_executed is False


async def test_bad_arguments_are_seen() -> None:
    seen: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        try:
            return await next(call)
        except duplex.InvalidArgument as error:
            seen.append(error.message)
            raise

    unserved: list[duplex.UnservedCall] = []
    async with linked(every_kind(note), server={"observer": unserved.append}) as pair:
        error = await outcome(pair.service("svc").coroutine(7))
        assert isinstance(error, duplex.InvalidArgument)
        assert seen == [error.message]
        assert error.may_have_executed is False
    assert unserved == []


async def test_a_call_that_ends_before_any_middleware_begins_is_told_to_the_observer() -> None:
    begun: list[Any] = []

    async def note(call: duplex.ServedCall, next: duplex.Next) -> Any:
        begun.append(call)
        await trio.sleep_forever()

    unserved: list[duplex.UnservedCall] = []
    async with linked(every_kind(note), server={"observer": unserved.append}) as pair:
        async with pair.service("svc").waiting.open("word"):
            await until(lambda: begun)
        await until(lambda: not pair.back._inside.running)
        async with pair.service("svc").waiting.open("word"):
            pass  # its end is in the same message as its beginning
        await pair.settle()
        await until(lambda: not pair.back._inside.running)
    assert len(begun) == 1
    assert [call.method for call in unserved] == ["svc.waiting"]


# -- answers of its own --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*UNARY, "collected"])
async def test_middleware_may_answer_itself(method: str) -> None:
    async def answer(call: duplex.ServedCall, next: duplex.Next) -> Any:
        return ["word", "of middleware"] if method == "collected" else "word of middleware"

    async with linked(every_kind(answer)) as pair:
        assert await use(pair, method) == ["word", "of middleware"]


@pytest.mark.parametrize("method", [*STREAMED, "both", "channel"])
async def test_middleware_may_answer_with_a_stream(method: str) -> None:
    async def louder(item: str, send: Any) -> None:
        await send(item.upper())

    async def loud(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_send(louder)
        return await next(call)

    async def answer(call: duplex.ServedCall, next: duplex.Next) -> Any:
        await call.send("word")
        await call.send("of middleware")

    async with linked(every_kind(loud, answer)) as pair:
        assert await use(pair, method) == ["WORD", "OF MIDDLEWARE"]


async def test_nothing_is_sent_where_one_result_is_due() -> None:
    errors: list[TypeError] = []

    async def answer(call: duplex.ServedCall, next: duplex.Next) -> Any:
        try:
            await call.send(1)
        except TypeError as error:
            errors.append(error)
        return await next(call)

    async with linked(every_kind(answer)) as pair:
        assert await use(pair, "coroutine") == ["word", "None None nothing"]
    assert "svc.coroutine returns one result" in str(errors[0])


@pytest.mark.parametrize("method", [*STREAMED, "both", "channel"])
async def test_what_streams_returns_nothing(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(call: duplex.ServedCall, next: duplex.Next) -> Any:
        await next(call)
        return [1, 2]

    async with linked(every_kind(answer)) as pair:
        assert isinstance(await outcome(use(pair, method)), duplex.Internal)
    assert "middleware that answers itself sends the items with call.send()" in caplog.text


async def test_next_has_to_be_awaited(caplog: pytest.LogCaptureFixture) -> None:
    async def forgets(call: duplex.ServedCall, next: duplex.Next) -> Any:
        return next(call)

    async with linked(every_kind(), server={"middleware": [forgets]}) as pair:
        with pytest.raises(duplex.Internal):
            await pair.service("svc").coroutine("word")
    assert "middleware has returned the coroutine" in caplog.text
    assert "`return await next(call)`" in caplog.text


async def test_next_is_called_with_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async def forgets(call: duplex.ServedCall, next: duplex.Next) -> Any:
        return await next(None)

    async with linked(every_kind(forgets)) as pair:
        assert isinstance(await outcome(use(pair, "coroutine")), duplex.Internal)
    assert "next() takes the call that the middleware was given, not None" in caplog.text


@pytest.mark.parametrize("method", UNARY)
async def test_next_may_be_called_again(method: str) -> None:
    async def twice(call: duplex.ServedCall, next: duplex.Next) -> Any:
        first = await next(call)
        call.metadata = {"user": "again"}
        return f"{first}, {await next(call)}"

    async with linked(every_kind(twice)) as pair:
        assert await use(pair, method) == ["word", "None None nothing, word again None nothing"]


# -- arguments -----------------------------------------------------------------------------------------


async def test_arguments_are_those_of_the_handler() -> None:
    seen: list[Any] = []

    async def look(call: duplex.ServedCall, next: duplex.Next) -> Any:
        seen.append(await call.arguments())
        result = await next(call)
        seen.append(await call.arguments())
        return result

    service = duplex.Service("svc", middleware=[look])

    @service.rpc
    async def add(a: int, /, b: float, *, c: int = 3) -> float:
        return a + b + c

    @service.rpc
    async def apply(function: duplex.Callback[[int], int], number: int) -> int:
        return await function(number)

    @service.rpc
    async def total(start: int, numbers: duplex.ReceiveChannel[int]) -> int:
        return start + sum([number async for number in numbers])

    async with linked(service) as pair:
        remote = pair.service("svc")
        assert await remote.add(1, 2) == 6
        assert seen[0] == seen[1]
        positional, keyword = seen[0]
        assert (list(positional), keyword) in [([1, 2.0], {}), ([1], {"b": 2.0})]
        seen.clear()
        assert await remote.apply(lambda number: number + 1, 2) == 3
        positional, keyword = seen[0]
        assert [*positional, *keyword.values()][1] == 2
        seen.clear()
        async with remote.total.open(1) as call:
            await call.send(2)
            await call.send_eof()
            assert await call.result() == 3
        positional, keyword = seen[0]
        assert [*positional, *keyword.values()] == [1]


async def test_who_asks_for_bad_arguments_is_told() -> None:
    errors: list[Any] = []

    async def look(call: duplex.ServedCall, next: duplex.Next) -> Any:
        errors.append(await outcome(call.arguments()))
        return await next(call)

    async with linked(every_kind(look)) as pair:
        for key in (None, "k"):
            error = await outcome(pair.service("svc").coroutine.with_options(idempotency_key=key)(7))
            assert isinstance(error, duplex.InvalidArgument)
            assert isinstance(errors.pop(), duplex.InvalidArgument)
