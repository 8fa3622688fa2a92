"""Calls that are answered without being run: each is told to the observer of its peer, once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import Pair, linked, outcome, until
from tests.engine.till import Till

svc = duplex.Service("svc")


@svc.rpc
async def double(number: int) -> int:
    return 2 * number


@svc.rpc(inline=True)
def inline(number: int) -> int:
    return number


@svc.rpc
def threaded(number: int) -> int:
    return number


@svc.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@svc.rpc
async def fail(number: int) -> int:
    raise duplex.NotFound(f"no {number}")


@svc.rpc
async def wait() -> None:
    await trio.sleep_forever()


@svc.rpc
async def keep(function: duplex.Callback[[], None]) -> None:
    kept.append(function)


kept: list[Any] = []


class Seen(list[duplex.UnservedCall]):
    """What an observer was told."""

    @property
    def in_short(self) -> list[tuple[str, str]]:
        return [(call.method, duplex.StatusCode(call.status).name) for call in self]


async def _unknown(pair: Pair) -> None:
    await outcome(pair.service("svc").nothing(1))


async def _unknown_service(pair: Pair) -> None:
    await outcome(pair.link.service("other").nothing(1))


async def _bad_arguments(pair: Pair) -> None:
    await outcome(pair.service("svc").double("one"))


async def _bad_arguments_inline(pair: Pair) -> None:
    await outcome(pair.service("svc").inline("one"))


async def _bad_arguments_threaded(pair: Pair) -> None:
    await outcome(pair.service("svc").threaded("one"))


async def _bad_notification(pair: Pair) -> None:
    await pair.service("svc").double.notify("one")
    await pair.settle()


async def _unknown_notification(pair: Pair) -> None:
    await pair.service("svc").nothing.notify(1)
    await pair.settle()


async def _wrong_manner(pair: Pair) -> None:
    await outcome(pair.service("svc").count(1))


async def _resumed(pair: Pair) -> None:
    async with pair.service("svc").count.with_options(resume=True).open(1) as stream:
        await outcome(stream.receive())


async def _streamed_with_a_key(pair: Pair) -> None:
    async with pair.service("svc").count.with_options(idempotency_key="k").open(1) as call:
        await outcome(call.receive())


async def _bad_arguments_with_a_key(pair: Pair) -> None:
    await outcome(pair.service("svc").double.with_options(idempotency_key="k")("one"))


REFUSED: dict[str, tuple[Callable[[Pair], Awaitable[None]], str, str]] = {
    "unknown method": (_unknown, "svc.nothing", "UNIMPLEMENTED"),
    "unknown service": (_unknown_service, "other.nothing", "UNIMPLEMENTED"),
    "bad arguments": (_bad_arguments, "svc.double", "INVALID_ARGUMENT"),
    "bad arguments, inline": (_bad_arguments_inline, "svc.inline", "INVALID_ARGUMENT"),
    "bad arguments, in a thread": (_bad_arguments_threaded, "svc.threaded", "INVALID_ARGUMENT"),
    "bad arguments of a notification": (_bad_notification, "svc.double", "INVALID_ARGUMENT"),
    "bad arguments, with a key": (_bad_arguments_with_a_key, "svc.double", "INVALID_ARGUMENT"),
    "unknown method, notified": (_unknown_notification, "svc.nothing", "UNIMPLEMENTED"),
    "called in the wrong manner": (_wrong_manner, "svc.count", "INVALID_ARGUMENT"),
    "not resumable": (_resumed, "svc.count", "INVALID_ARGUMENT"),
    "a stream with a key": (_streamed_with_a_key, "svc.count", "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_refused_calls_are_told_once(how: str) -> None:
    seen = Seen()
    make, method, status = REFUSED[how]
    async with linked(svc, server={"observer": seen.append}) as pair:
        await make(pair)
        await until(lambda: seen)
        await pair.settle()
        assert seen.in_short == [(method, status)]
        assert seen[0].peer == duplex.PeerInfo(pair.client.id, "client")
        assert seen[0].message
        assert seen[0].notify == ("notif" in how)
        assert not seen[0].repeated


async def test_what_is_told_is_what_the_caller_was_told() -> None:
    seen = Seen()
    async with linked(svc, server={"observer": seen.append}) as pair:
        remote = pair.service("svc").with_options(metadata={"request": "7"})
        error = await outcome(remote.double("one"))
        assert isinstance(error, duplex.InvalidArgument)
        assert (seen[0].message, seen[0].metadata) == (error.message, {"request": "7"})


async def test_calls_that_are_run_are_not_told() -> None:
    """However they end."""
    seen = Seen()
    async with linked(svc, server={"observer": seen.append}) as pair:
        remote = pair.service("svc")
        assert [await remote.double(1), await remote.inline(1), await remote.threaded(1)] == [2, 1, 1]
        await outcome(remote.fail(1))
        await remote.double.notify(1)
        async with remote.count.open(2) as call:
            assert [item async for item in call] == [0, 1]
        await remote.double.with_options(idempotency_key="k")(1)
        async with remote.wait.open():
            await until(lambda: pair.back._inside.running)
        assert seen == []


async def test_calls_over_a_limit() -> None:
    seen = Seen()
    options = {"observer": seen.append, "limits": duplex.Limits(max_handlers=1)}
    async with linked(svc, server=options) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.service("svc").wait)
        await until(lambda: pair.back._inside.running)
        error = await outcome(pair.service("svc").double(1))
        assert isinstance(error, duplex.ResourceExhausted)
        assert seen.in_short == [("svc.double", "RESOURCE_EXHAUSTED")]
        nursery.cancel_scope.cancel()


async def test_a_call_that_is_cancelled_before_it_begins() -> None:
    """A handler that waited gets workers of its own, so the next one can be given up before it has begun."""
    seen = Seen()
    async with linked(svc, server={"observer": seen.append}) as pair:
        async with pair.service("svc").wait.open():
            await until(lambda: pair.back._inside.running)
        await until(lambda: not pair.back._inside.running)
        async with pair.service("svc").wait.open():
            pass  # its end is in the same message as its beginning
        await pair.settle()
        await until(lambda: not pair.back._inside.running)
        assert seen.in_short == [("svc.wait", "CANCELLED")]


async def test_a_callback_whose_call_is_over() -> None:
    seen = Seen()
    async with linked(svc, client={"observer": seen.append}) as pair:
        await pair.service("svc").keep(lambda: None)
        callback = kept.pop()
        callback._channel_end.over = False
        await outcome(callback())
        assert seen.in_short == [("callback", "FAILED_PRECONDITION")]


async def test_repetitions_are_told_and_the_run_is_not() -> None:
    seen = Seen()
    till = Till()
    async with linked(till.service, server={"observer": seen.append}) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        assert await remote.charge(1) == 101
        assert seen == []
        assert await remote.charge(1) == 101
        assert seen.in_short == [("till.charge", "OK")]
        assert (seen[0].repeated, seen[0].message) == (True, "")
        await outcome(remote.charge(2))
        assert seen.in_short[1:] == [("till.charge", "FAILED_PRECONDITION")]
        assert not seen[1].repeated


async def test_attempts_that_joined_a_run_are_told_when_it_ends() -> None:
    seen = Seen()
    till = Till()
    async with linked(till.service, server={"observer": seen.append}) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(remote.slow)
            await until(lambda: pair.back.statistics().incoming == 3 and till.running)
            assert seen == []
            till.go.set()
        assert seen.in_short == [("till.slow", "OK")] * 2
        assert till.runs == 1


async def test_an_observer_that_fails_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: duplex.UnservedCall) -> None:
        raise ZeroDivisionError(call.method)

    async with linked(svc, server={"observer": fail}) as pair:
        for _ in range(3):
            assert isinstance(await outcome(pair.service("svc").nothing()), duplex.Unimplemented)
        assert await pair.service("svc").double(1) == 2
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in told] == ["the observer of calls failed: svc.nothing"]


async def test_an_observer_is_a_function() -> None:
    with pytest.raises(duplex.ConfigurationError, match="observer must be a function, not 7"):
        async with duplex.open_peer(observer=7):  # type: ignore[arg-type]
            raise AssertionError("opened")
