"""Middleware of calls out: around every kind of call, for a peer, a service or a method."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import collect, linked

things = duplex.Service("things")


@things.rpc
async def echo(value: Any) -> Any:
    return value


@things.rpc
async def who() -> dict[str, str]:
    metadata = duplex.current_call().metadata
    return {key: str(value) for key, value in metadata.items()}


@things.rpc
async def fail() -> None:
    raise duplex.NotFound("no such thing")


@things.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number
    duplex.current_call().trailers["seen"] = str(upto)


@things.rpc
async def break_off() -> AsyncIterator[int]:
    yield 1
    raise duplex.DataLoss("broken")


@things.rpc
async def shout(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
    async for word in words:
        yield word.upper()


@things.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


@things.rpc
async def wait() -> None:
    await trio.sleep_forever()


@things.rpc
async def visit(function: duplex.Callback[[int], int]) -> int:
    return await function(20)


seen: list[str] = []


@things.rpc
async def note(value: str) -> None:
    seen.append(value)


def telling(log: list[str], name: str) -> duplex.CallingMiddleware:
    """Middleware that logs what passes it."""

    async def middleware(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        log.append(f"{name}: {call.kind} {call.method}")
        try:
            result = await next(call)
        except BaseException as error:
            log.append(f"{name}: {type(error).__name__}")
            raise
        log.append(f"{name}: {result!r}")
        return result

    return middleware


async def test_the_order_is_peer_service_method() -> None:
    log: list[str] = []
    async with linked(things, client={"call_middleware": [telling(log, "a"), telling(log, "b")]}) as pair:
        service = pair.service("things").with_options(middleware=[telling(log, "c")])
        assert await service.echo.with_options(middleware=[telling(log, "d")])(7) == 7
        assert log == [*(f"{name}: unary things.echo" for name in "abcd"), *(f"{name}: 7" for name in "dcba")]
        log.clear()
        assert await pair.link.service("things").echo(8) == 8
        assert log == ["a: unary things.echo", "b: unary things.echo", "b: 8", "a: 8"]


async def test_errors_pass() -> None:
    log: list[str] = []
    async with linked(things, client={"call_middleware": [telling(log, "a")]}) as pair:
        with pytest.raises(duplex.NotFound, match="no such thing") as caught:
            await pair.service("things").fail()
        assert caught.value.peer == "server"
        assert log[-1] == "a: NotFound"


async def test_it_may_change_what_is_sent_and_what_comes_back() -> None:
    async def middleware(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        call.metadata = {**call.metadata, "user": "ann"}
        call.state["user"] = "ann"
        (value,), keyword = call.arguments
        call.arguments = ([value, call.state["user"]],), keyword
        return [await next(call)]

    async with linked(things) as pair:
        remote = pair.service("things").with_options(middleware=[middleware], metadata={"x": "1"})
        assert await remote.echo(3) == [[3, "ann"]]

    async def headers(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        call.metadata = {**call.metadata, "user": "ann"}
        return await next(call)

    async with linked(things) as pair:
        remote = pair.service("things").with_options(middleware=[headers], metadata={"x": "1"})
        assert await remote.who() == {"x": "1", "user": "ann"}
        assert await remote.with_options(idempotency_key="k").who() == {"x": "1", "user": "ann"} | {
            key: value
            for key, value in (await remote.with_options(idempotency_key="k").who()).items()
            if key.startswith("duplex-")
        }


async def test_headers_of_the_protocol_cannot_be_set() -> None:
    async def middleware(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        call.metadata = {"duplex-idempotency-key": "mine"}
        return await next(call)

    async with linked(things) as pair:
        with pytest.raises(duplex.ConfigurationError, match="reserved"):
            await pair.service("things").with_options(middleware=[middleware]).echo(3)


async def test_it_may_answer_itself_and_try_again() -> None:
    async def cached(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        return "from here"

    tries = 0

    async def again(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        nonlocal tries
        while True:
            tries += 1
            try:
                return await next(call)
            except duplex.NotFound:
                if tries == 3:
                    return "nothing"

    async with linked(things) as pair:
        assert await pair.service("things").with_options(middleware=[cached]).echo(1) == "from here"
        assert not pair.server.calls()
        assert await pair.service("things").with_options(middleware=[again]).fail() == "nothing"
        assert tries == 3


async def test_it_may_bound_the_call() -> None:
    async def short(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        assert call.timeout == 60
        call.timeout = 0.02
        return await next(call)

    async with linked(things) as pair:
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.service("things").with_options(middleware=[short], timeout=60).wait()


async def test_notifications() -> None:
    log: list[str] = []
    async with linked(things, client={"call_middleware": [telling(log, "a")]}) as pair:
        seen.clear()
        await pair.service("things").note.notify("hello")
        await pair.settle()
        assert log == ["a: notify things.note", "a: None"]
        assert seen == ["hello"]


async def test_callbacks() -> None:
    log: list[str] = []

    async def double(number: int) -> int:
        return 2 * number

    async with linked(things, server={"call_middleware": [telling(log, "a")]}) as pair:
        assert await pair.service("things").visit(double) == 40
        assert log == ["a: unary callback 1", "a: 40"]


# -- opened calls ----------------------------------------------------------------------------------------


async def test_an_opened_call_lasts_as_long_as_its_block() -> None:
    log: list[str] = []
    calls: list[duplex.MadeCall] = []

    async def keeping(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        assert (call.peer, call.trailers, call.error) == (None, {}, None)
        calls.append(call)
        return await next(call)

    async with linked(things, client={"call_middleware": [telling(log, "a"), keeping]}) as pair:
        async with pair.service("things").count.open(3) as stream:
            log.append("block")
            assert await collect(stream) == [0, 1, 2]
        assert log == ["a: open things.count", "block", "a: None"]
        (call,) = calls
        assert (call.peer, call.trailers, call.error) == ("server", {"seen": "3"}, None)


async def test_what_an_opened_call_fails_with() -> None:
    log: list[str] = []
    calls: list[duplex.MadeCall] = []

    async def keeping(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        calls.append(call)
        return await next(call)

    async with linked(things, client={"call_middleware": [telling(log, "a"), keeping]}) as pair:
        with pytest.raises(duplex.DataLoss):
            async with pair.service("things").break_off.open() as stream:
                await collect(stream)
        assert log[-1] == "a: DataLoss"
        async with pair.service("things").break_off.open() as stream:
            with pytest.raises(duplex.DataLoss):
                await collect(stream)
        assert log[-1] == "a: None", "the block kept it to itself"
        assert all(type(call.error) is duplex.DataLoss for call in calls)


async def test_what_the_block_raises_is_nobodys_to_hide() -> None:
    async def hiding(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        try:
            await next(call)
        except KeyError:
            pass

    async def changing(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        try:
            await next(call)
        except KeyError:
            raise ValueError("otherwise") from None

    async with linked(things) as pair:
        remote = pair.service("things")
        with pytest.raises(KeyError):
            async with remote.with_options(middleware=[hiding]).count.open(3):
                raise KeyError("mine")
        with pytest.raises(ValueError, match="otherwise"):
            async with remote.with_options(middleware=[changing]).count.open(3):
                raise KeyError("mine")


async def test_scopes_of_middleware_are_around_the_block() -> None:
    async def short(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        with trio.move_on_after(0.05) as scope:
            await next(call)
        assert scope.cancelled_caught
        raise duplex.DeadlineExceeded("too long for me")

    async with linked(things) as pair:
        with pytest.raises(duplex.DeadlineExceeded, match="too long for me"):
            async with pair.service("things").with_options(middleware=[short]).wait.open() as call:
                await call.result()


async def test_cancelling_from_outside() -> None:
    log: list[str] = []
    async with linked(things, client={"call_middleware": [telling(log, "a")]}) as pair:
        with trio.move_on_after(0.02) as scope:
            async with pair.service("things").wait.open() as call:
                await call.result()
        assert scope.cancelled_caught
        assert log[-1] == "a: Cancelled"


async def test_streams_that_are_wrapped() -> None:
    def wrapping(mark: str) -> duplex.CallingMiddleware:
        async def receive_marked(receive: Any) -> Any:
            return await receive() + mark

        async def send_marked(item: str, send: Any) -> None:
            await send(item + mark)

        async def middleware(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
            call.wrap_receive(receive_marked)
            call.wrap_send(send_marked)
            return await next(call)

        return middleware

    async with linked(things) as pair:
        remote = pair.service("things").with_options(middleware=[wrapping("a"), wrapping("b")])
        async with remote.shout.open() as call:
            await call.send("x")
            assert await call.receive() == "XABba"
            await call.send("y")
            await call.send_eof()
            assert [item async for item in call] == ["YABba"]
            with pytest.raises(trio.EndOfChannel):
                await call.receive()
            assert call.peer == "server"


async def test_a_single_result_of_an_opened_call() -> None:
    async def none_odd(item: int, send: Any) -> None:
        if item % 2 == 0:
            await send(item)

    async def middleware(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        call.wrap_send(none_odd)
        return await next(call)

    async with linked(things) as pair:
        async with pair.service("things").with_options(middleware=[middleware]).total.open() as call:
            for number in range(5):
                await call.send(number)
            assert await call.result() == 6


async def test_opening_again() -> None:
    tries = 0

    async def again(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        nonlocal tries
        for _ in range(2):
            tries += 1
            await next(call)

    async def refusing(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        return None

    async with linked(things) as pair:
        remote = pair.service("things")
        with pytest.raises(RuntimeError, match="cannot be opened again"):
            async with remote.with_options(middleware=[again]).count.open(2) as call:
                await collect(call)
        assert tries == 2
        with pytest.raises(TypeError, match="there is nothing to open"):
            async with remote.with_options(middleware=[refusing]).count.open(2):
                raise AssertionError("it was opened")


async def test_it_is_around_retries_and_resumption() -> None:
    log: list[str] = []
    async with linked(things) as pair:
        remote = pair.service("things").with_options(
            middleware=[telling(log, "a")],
            retry=duplex.RetryPolicy(
                max_attempts=3, codes=frozenset({duplex.StatusCode.NOT_FOUND}), initial=0.001
            ),
            idempotent=True,
        )
        with pytest.raises(duplex.NotFound):
            await remote.fail()
        assert log == ["a: unary things.fail", "a: NotFound"]
        assert pair.client.statistics().retries == 2


@things.rpc(resumable=True)
async def follow(*, cursor: int = 0) -> AsyncIterator[duplex.Tracked[int, int]]:
    for number in range(cursor, 3):
        yield duplex.Tracked(number + 1, number)


async def test_streams_that_go_on() -> None:
    log: list[str] = []
    calls: list[duplex.MadeCall] = []

    async def keeping(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        calls.append(call)
        return await next(call)

    async with linked(things) as pair:
        remote = pair.service("things").with_options(middleware=[telling(log, "a"), keeping])
        async with remote.follow.with_options(resume=True).open() as stream:
            assert [item async for item in stream] == [0, 1, 2]
        assert log == ["a: open things.follow", "a: None"]
        assert (calls[0].peer, calls[0].trailers, calls[0].error) == (None, {}, None)


async def test_next_takes_its_own_call() -> None:
    async def wrong(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        other: Any = "another"
        return await next(other)

    async with linked(things) as pair:
        with pytest.raises(TypeError, match="the call that the middleware was given, not 'another'"):
            await pair.service("things").with_options(middleware=[wrong]).echo(1)


@pytest.mark.parametrize("bad", [telling([], "a"), "abc", [3], [lambda call, next: None], None])
async def test_what_is_no_middleware(bad: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match="middleware"):
        async with duplex.open_peer(call_middleware=bad):
            raise AssertionError("it was opened")
    if bad is not None:
        async with linked(things) as pair:
            with pytest.raises(duplex.ConfigurationError, match="middleware"):
                pair.service("things").with_options(middleware=bad)


async def test_without_any_nothing_is_in_between() -> None:
    """So it costs a call nothing."""
    from duplex.client._balanced import Balanced

    async with linked(things) as pair:
        assert type(pair.service("things").echo._caller) is Balanced
        assert pair.link.service("things").echo._caller is pair.link._inside.caller


async def test_headers_are_assigned_and_not_changed_in_place() -> None:
    """They may be those of a proxy, which many calls have."""
    given = {"user": "ann"}

    async def adds(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        with pytest.raises(TypeError, match="item assignment"):
            call.metadata["trace"] = "1"  # type: ignore[index]
        return await next(call)

    async with linked(things, client={"call_middleware": [adds]}) as pair:
        remote = pair.service("things")
        assert await remote.who() == {}
        assert await remote.with_options(metadata=given).who() == given
    assert given == {"user": "ann"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("timeout", "x", "timeout must be a number of seconds"),
        ("timeout", -1, "timeout must be a number of seconds"),
        ("arguments", (1, 2), "things.echo: the arguments of a call are those by position and those by name"),
        ("arguments", ("ab", {}), "by position and those by name"),
        ("arguments", 5, "by position and those by name"),
    ],
)
async def test_what_is_assigned_is_checked(name: str, value: Any, message: str) -> None:
    async def changes(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        setattr(call, name, value)
        return await next(call)

    async with linked(things, client={"call_middleware": [changes]}) as pair:
        with pytest.raises(duplex.ConfigurationError, match=message):
            await pair.service("things").echo(1)
        assert pair.client.calls() == []


async def test_next_has_to_be_awaited() -> None:
    async def forgets(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        return next(call)

    async with linked(things, client={"call_middleware": [forgets]}) as pair:
        remote = pair.service("things")
        with pytest.raises(
            TypeError,
            match=r"things\.echo: middleware has returned the coroutine .* `return await next\(call\)`",
        ):
            await remote.echo(1)
        with pytest.raises(TypeError, match=r"things\.echo: middleware has returned the coroutine"):
            await remote.echo.notify(1)
