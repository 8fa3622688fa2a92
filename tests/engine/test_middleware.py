"""Middleware of the serving side: what it sees and may do, around every kind of handler."""

from __future__ import annotations

import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.serving import Invocation, ServedChannel
from tests.engine.helpers import Pair, collect, linked, outcome, quiet, until

told: contextvars.ContextVar[str] = contextvars.ContextVar("told", default="nothing")


def every_kind(*middleware: duplex.ServingMiddleware, **options: Any) -> duplex.Service:
    """Make a service with a method of each kind, which says what it has seen."""
    service = duplex.Service("svc", middleware=middleware)

    def seen() -> str:
        call = duplex.current_call()
        return f"{call.metadata.get('user')!s} {call.state.get('user')} {told.get()}"

    @service.rpc(**options)
    async def coroutine(word: str) -> str:
        return f"{word} {seen()}"

    @service.rpc(**options)
    async def waiting(word: str) -> str:
        await trio.lowlevel.checkpoint()
        return f"{word} {seen()}"

    @service.rpc(**options)
    def thread(word: str) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"{word} {seen()}"

    @service.rpc(inline=True, **options)
    def inline(word: str) -> str:
        assert threading.current_thread() is threading.main_thread()
        return f"{word} {seen()}"

    @service.rpc(**options)
    async def generator(word: str) -> AsyncIterator[str]:
        yield word
        yield seen()

    @service.rpc(**options)
    def thread_generator(word: str) -> Iterator[str]:
        assert threading.current_thread() is not threading.main_thread()
        yield word
        yield seen()

    @service.rpc(inline=True, **options)
    def inline_generator(word: str) -> Iterator[str]:
        yield word
        yield seen()

    @service.rpc(**options)
    async def collected(words: duplex.ReceiveChannel[str]) -> list[str]:
        return [*[word async for word in words], seen()]

    @service.rpc(**options)
    async def both(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word
        yield seen()

    @service.rpc(**options)
    async def channel(words: duplex.Channel[str, str]) -> None:
        async for word in words:
            await words.send(word)
        await words.send(seen())

    return service


#: Methods, and what they do with words.
UNARY = ("coroutine", "waiting", "thread", "inline")
STREAMED = ("generator", "thread_generator", "inline_generator")
STREAMING = ("collected", "both", "channel")


async def use(pair: Pair, method: str, *, name: str = "svc", **options: Any) -> list[str]:
    """Call a method with a word, or with a stream of one, and return what came back."""
    remote = getattr(pair.service(name), method).with_options(**options)
    if method in UNARY:
        return str(await remote("word")).split(" ", 1)
    if method in STREAMED:
        async with remote.open("word") as call:
            return await collect(call)
    async with remote.open() as call:
        await call.send("word")
        await call.send_eof()
        return list(await call.result()) if method == "collected" else await collect(call)


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


async def turn_into_denial(call: duplex.ServedCall, next: duplex.Next) -> Any:
    try:
        return await next(call)
    except ZeroDivisionError as error:
        raise duplex.PermissionDenied(f"the handler raised {error!r}") from error


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
        with trio.move_on_after(0.01):
            await pair.service("svc").waiting("word")
        assert len(begun) == 1
        async with pair.service("svc").waiting.open("word"):
            pass  # its end is in the same message as its beginning
        await pair.settle()
        await until(lambda: not pair.back.running)
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


# -- streams -------------------------------------------------------------------------------------------


def through(name: str) -> duplex.ServingMiddleware:
    """Middleware that writes its name on everything that passes."""

    async def receiving(receive: Any) -> str:
        return f"{await receive()}>{name}"

    async def sending(item: str, send: Any) -> None:
        await send(f"{item}>{name}")

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_receive(receiving)
        call.wrap_send(sending)
        return await next(call)

    return middleware


@pytest.mark.parametrize("method", [*STREAMED, *STREAMING])
async def test_what_was_wrapped_first_is_nearest_to_the_caller(method: str) -> None:
    async with linked(every_kind(through("outer"), through("inner"))) as pair:
        first, last = await use(pair, method)
        received = "" if method in STREAMED else ">outer>inner"
        sent = "" if method == "collected" else ">inner>outer"
        assert (first, last) == (f"word{received}{sent}", f"None None nothing{sent}")


@pytest.mark.parametrize("method", STREAMING)
async def test_items_may_be_dropped_and_added(method: str) -> None:
    async def only_even(receive: Any) -> str:
        while int(item := await receive()) % 2:
            pass
        return str(item)

    async def twice(item: str, send: Any) -> None:
        if item != "4":
            await send(item)
            await send(item)

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_receive(only_even)
        call.wrap_send(twice)
        return await next(call)

    async with linked(every_kind(middleware)) as pair:
        async with getattr(pair.service("svc"), method).open() as call:
            for number in range(7):
                await call.send(str(number))
            await call.send_eof()
            items = list(await call.result()) if method == "collected" else await collect(call)
        expected = ["0", "2", "4", "6"] if method == "collected" else ["0", "0", "2", "2", "6", "6"]
        assert items[: len(expected)] == expected


async def test_many_items_pass_when_a_window_is_full() -> None:
    seen = 0

    async def count(item: str, send: Any) -> None:
        nonlocal seen
        seen += 1
        await send(item)

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_send(count)
        return await next(call)

    limits = duplex.Limits(channel_window=2000, link_window=4000)
    async with linked(every_kind(middleware), client={"limits": limits}) as pair:
        async with pair.service("svc").both.open() as call, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def feed() -> None:
                for number in range(500):
                    await call.send(str(number))
                await call.send_eof()

            assert (await collect(call))[:500] == [str(number) for number in range(500)]
    assert seen == 501


async def test_a_channel_that_is_passed_for_the_stream_is_wrapped_too() -> None:
    sink, source = trio.open_memory_channel[str](2)
    sink.send_nowait("word")
    sink.close()
    async with linked(every_kind(through("name"))) as pair:
        assert await pair.service("svc").collected(source) == ["word>name", "None None nothing"]


@pytest.mark.parametrize("method", ["collected", "channel"])
async def test_wrapped_streams_are_what_streams_are(method: str) -> None:
    """They can be closed, ended, and asked."""
    service = duplex.Service("svc", middleware=[through("name")])

    @service.rpc
    async def collected(words: duplex.ReceiveChannel[str]) -> int:
        await words.receive()
        buffered = words.statistics().buffered_items
        await words.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await words.receive()
        return buffered

    @service.rpc
    async def channel(words: duplex.Channel[int, str]) -> None:
        await words.receive()
        await words.send(words.statistics().buffered_items)
        await words.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await words.send(1)
        await words.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await words.receive()

    async def sending(item: int, send: Any) -> None:
        await send(item)

    async with linked(service) as pair:
        async with getattr(pair.service("svc"), method).open() as call:
            for _ in range(3):
                await call.send("word")
            await pair.settle()
            result = await call.result() if method == "collected" else str((await collect(call))[0])
        assert result == (2 if method == "collected" else "2>name")


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


# -- where it is given ---------------------------------------------------------------------------------


async def name_it(call: duplex.ServedCall, next: duplex.Next) -> Any:
    return [call.method, await next(call)]


async def mark_it(call: duplex.ServedCall, next: duplex.Next) -> Any:
    return ["marked", await next(call)]


class Store:
    @duplex.rpc(middleware=[mark_it])
    async def get(self) -> int:
        return 1


@duplex.rpc(middleware=[mark_it])
async def get() -> int:
    return 1


class AsObject:
    """Middleware that is an object."""

    async def __call__(self, call: duplex.ServedCall, next: duplex.Next) -> Any:
        return await name_it(call, next)


def _exposed(peer: duplex.Peer) -> None:
    peer.expose(Store(), middleware=[name_it])


def _from_object(peer: duplex.Peer) -> None:
    peer.add_service(duplex.Service.from_object(Store(), middleware=[AsObject()]))


def _added(peer: duplex.Peer) -> None:
    service = duplex.Service("store", middleware=[name_it])
    service.add(get)
    peer.add_service(service)


def _added_with_its_own(peer: duplex.Peer) -> None:
    service = duplex.Service("store", middleware=[name_it])
    service.add(get, middleware=[mark_it])
    peer.add_service(service)


@pytest.mark.parametrize("add", [_exposed, _from_object, _added, _added_with_its_own])
async def test_ways_to_give_it(add: Callable[[duplex.Peer], None]) -> None:
    async with linked() as pair:
        add(pair.server)
        assert await pair.link.service("store").get() == ["store.get", ["marked", 1]]


async def test_decorated_middleware_may_be_left_out_when_added() -> None:
    service = duplex.Service("store")
    service.add(get, middleware=[])
    async with linked(service) as pair:
        assert await pair.service("store").get() == 1


def not_async(call: Any, next: Any) -> None: ...


async def one_argument(call: Any) -> None: ...


BAD: dict[str, tuple[Any, str]] = {
    "one function": (name_it, "middleware must be a list of functions, not <function name_it"),
    "a text": ("name_it", "middleware must be a list of functions, not 'name_it'"),
    "a number": (7, "middleware must be a list of functions, not 7"),
    "a list of others": ([7], "middleware must be a function, not 7"),
    "a plain function": ([not_async], "the middleware not_async must be an `async def`"),
    "of one argument": ([one_argument], "must take two arguments: `async def one_argument"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_middleware_is_told_at_once(what: str) -> None:
    middleware, message = BAD[what]
    with pytest.raises(duplex.ConfigurationError, match=f"service 'svc': .*{message[:20]}") as caught:
        duplex.Service("svc", middleware=middleware)
    assert message in str(caught.value)
    service = duplex.Service("svc")
    with pytest.raises(duplex.ConfigurationError, match="service 'svc': "):
        service.rpc(middleware=middleware)
    with pytest.raises(duplex.ConfigurationError, match="service 'svc': "):
        service.add(get, middleware=middleware)
    with pytest.raises(duplex.ConfigurationError, match=r"rpc\(\): "):
        duplex.rpc(middleware=middleware)


async def test_what_is_no_middleware_of_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"open_peer\(\): .*must be an `async def`"):
        async with duplex.open_peer(middleware=[not_async]):  # type: ignore[list-item]
            raise AssertionError("opened")


async def test_calls_with_middleware_leave_nothing_to_the_garbage_collector() -> None:
    def served() -> int:
        return sum(
            isinstance(thing, (Invocation, ServedChannel, duplex.ServedCall)) for thing in gc.get_objects()
        )

    async with linked(every_kind(turn_into_denial, through("name"))) as pair:
        await use(pair, "coroutine")
        gc.collect()
        gc.disable()
        try:
            for method in (*UNARY, *STREAMED, *STREAMING):
                for _ in range(5):
                    await use(pair, method)
            await quiet(pair.link, pair.back)
            assert served() <= 1
        finally:
            gc.enable()


def typed(call: duplex.ServedCall, next: duplex.Next) -> Coroutine[Any, Any, Any]:
    """Type checkers take it for middleware; it is tried by them alone."""
    return turn_into_denial(call, next)


TYPED: duplex.ServingMiddleware = typed
