"""Whatever a handler's error is like: its caller gets one, at once, and the link goes on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import types
from collections.abc import Callable
from typing import Any, Protocol

import pytest
import trio

import duplex
from duplex.engine.serving import ServedChannel
from tests.engine.helpers import GUARD, Pair, linked, outcome, until
from tests.engine.odd_errors import (
    ERRORS,
    NoSuchArticle,
    Stubborn,
    by_coroutine,
    by_inline,
    keep_a_cancellation,
    odd,
)

#: What the caller takes: less than some errors would say.
SMALL: Any = {"limits": duplex.Limits(max_message=100_000)}

HOW = ["by_coroutine", "by_inline", "by_thread", "by_stream", "by_generator", "by_inline_generator"]


async def told(pair: Pair, how: str, kind: str) -> Any:
    """Return how a call ends."""
    method = pair.service("odd")[how]
    if how not in ("by_stream", "by_generator", "by_inline_generator"):
        return await outcome(method(kind))
    async with method.open(kind) as call:
        assert await call.receive() == 1
        return await outcome(call.receive())


async def goes_on(pair: Pair) -> None:
    """Check that the link does, and is the same one."""
    assert pair.client.links == [pair.link]
    assert await pair.service("odd").good() == 1


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("how", HOW)
async def test_every_odd_error_is_told(how: str, debug: bool) -> None:
    async with linked(odd, server={"debug": debug}, client=SMALL) as pair:
        await keep_a_cancellation()
        wrong = {}
        for kind, (_, expected) in ERRORS.items():
            error: Any = "no answer"
            with trio.move_on_after(GUARD / 2):
                error = await told(pair, how, kind)
            if type(error) is not expected:
                wrong[kind] = error
        assert not wrong
        await goes_on(pair)


@pytest.mark.parametrize("how", ["by_coroutine", "by_generator"])
async def test_every_odd_error_is_told_over_tcp(how: str) -> None:
    async with linked(odd, endpoint="tcp://127.0.0.1:*", client=SMALL) as pair:
        await keep_a_cancellation()
        for kind, (_, expected) in ERRORS.items():
            assert type(await told(pair, how, kind)) is expected, kind
        await goes_on(pair)


@pytest.mark.parametrize("how", ["by_coroutine", "by_inline", "by_thread"])
async def test_every_odd_error_of_a_call_with_a_key_is_told(how: str) -> None:
    async with linked(odd, client=SMALL) as pair:
        await keep_a_cancellation()
        for kind, (_, expected) in ERRORS.items():
            method = pair.service("odd")[how].with_options(idempotency_key=kind)
            first, again = await outcome(method(kind)), await outcome(method(kind))
            assert type(first) is expected, kind
            assert (type(again), again.message) == (expected, first.message), kind
        await goes_on(pair)


@pytest.mark.parametrize("function", [by_coroutine, by_inline])
async def test_every_odd_error_of_a_callback_is_told(function: Any) -> None:
    async with linked(odd) as pair:
        await keep_a_cancellation()
        for kind, (_, expected) in ERRORS.items():
            assert await pair.service("odd").apply(function, kind) == expected.__name__, kind
        await goes_on(pair)


async def test_notifications_with_odd_errors_give_their_credit_back() -> None:
    async with linked(odd) as pair:
        await keep_a_cancellation()
        for kind in ERRORS:
            await pair.service("odd").by_coroutine.notify(kind)
        await goes_on(pair)


async def test_what_can_be_told_is() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def refuse(which: str) -> None:
        error = duplex.NotFound(KeyError("k"), details={"in": 1})
        if which == "timedelta":
            error.retry_after = dt.timedelta(seconds=5)  # type: ignore[assignment]
        if which == "metadata":
            error.metadata = {"UPPER": "x"}
            error.retry_after = 2.0
        if which == "trailers":
            duplex.current_call().trailers["key"] = 3  # type: ignore[assignment]
        raise error

    async with linked(service) as pair:
        for which, pause in (("timedelta", 5.0), ("metadata", 2.0), ("trailers", None)):
            error = await outcome(pair.service("service").refuse(which))
            assert (error.message, error.details, error.retry_after) == ("'k'", {"in": 1}, pause), which


async def test_error_without_its_constructor_is_whole() -> None:
    error = NoSuchArticle("k")
    assert (str(error), error.message, error.code) == ("k", "k", duplex.StatusCode.NOT_FOUND)
    assert (error.method, error.details, error.retry_after, error.may_have_executed) == (
        None,
        None,
        None,
        True,
    )


def test_code_that_is_none_is_refused() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"is a duplex\.StatusCode, not 'NOT_FOUND'"):
        duplex.RPCError("x", code="NOT_FOUND")  # type: ignore[arg-type]


class _Broken(logging.Filter):
    """Logging that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the log is broken")


@pytest.mark.parametrize("how", HOW)
async def test_logging_that_fails_costs_no_answer(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = _Broken()
    logger = logging.getLogger("duplex")
    async with linked(odd) as pair:
        logger.addFilter(broken)
        try:
            error = await told(pair, how, "no Exception")
        finally:
            logger.removeFilter(broken)
        assert type(error) is duplex.Internal
        assert "no Exception" not in error.message
        await goes_on(pair)
    assert "the log is broken" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["by_coroutine", "by_inline", "by_thread"])
async def test_answer_that_cannot_be_sent_ends_the_link(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller of what cannot be answered at all learns of it by the end of its link."""

    def refuse(*_: Any) -> None:
        raise MemoryError

    async with linked(odd, check=False) as pair:
        monkeypatch.setattr(pair.back._inside.channels, "close", refuse)
        with pytest.raises(duplex.PeerLost):
            await pair.service("odd")[how]("no Exception")


# -- results -------------------------------------------------------------------------------------------


class _Deadly:
    """A value that the codec cannot even look at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("leave me alone")


async def test_results_of_the_wrong_kind() -> None:
    service = duplex.Service("service")

    async def later() -> int:
        raise AssertionError("nobody awaits it")  # pragma: no cover

    endless: list[Any] = []
    endless.append(endless)
    made: list[Any] = []
    results: dict[str, Callable[[], Any]] = {
        "coroutine": later,
        "generator": lambda: (i for i in range(3)),
        "class": lambda: int,
        "deadly": _Deadly,
        "itself": lambda: endless,
        "surrogate": lambda: "\ud800",
        "large": lambda: 1 << 70,
    }

    def make(kind: str) -> Any:
        made.append(results[kind]())
        return made[-1]

    @service.rpc
    def in_thread(kind: str) -> Any:
        return make(kind)

    @service.rpc
    async def in_task(kind: str) -> Any:
        return make(kind)

    @service.rpc(inline=True)
    def inline(kind: str) -> Any:
        return make(kind)

    @service.rpc
    async def items(kind: str) -> Any:
        yield 1
        yield make(kind)

    async with linked(service, odd) as pair:
        remote = pair.service("service")
        for kind in results:
            for name in ("in_thread", "in_task", "inline"):
                assert type(await outcome(remote[name](kind))) is duplex.Internal, (kind, name)
            async with remote.items.open(kind) as call:
                assert await call.receive() == 1
                assert type(await outcome(call.receive())) is duplex.Internal, kind
        await goes_on(pair)
    for result in made:
        if type(result) is types.CoroutineType:
            result.close()


async def test_handler_with_a_channel_that_returns_a_value() -> None:
    """The value would be lost."""
    service = duplex.Service("service")

    @service.rpc
    async def talk(channel: duplex.Channel[int, int]):  # type: ignore[no-untyped-def]
        await channel.send(1)
        return 2

    async with linked(service, odd, server={"debug": True}) as pair:
        async with pair.service("service").talk.open() as call:
            assert await call.receive() == 1
            with pytest.raises(
                duplex.Internal, match="answers through its channel, so it returns None, not a int"
            ):
                await call.receive()
        await goes_on(pair)


@pytest.mark.parametrize("how", ["return", "stream"])
async def test_trailers_that_cannot_be_encoded(how: str) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def one(which: str) -> int:
        duplex.current_call().trailers.update(bad[which])
        return 1

    @service.rpc
    async def many(which: str) -> Any:
        yield 1
        duplex.current_call().trailers.update(bad[which])

    bad: dict[str, Any] = {"key": {"Not A Key": "x"}, "number": {"key": 1}, "large": {"key": "x" * 100_000}}
    async with linked(service, odd) as pair:
        for which in bad:
            if how == "return":
                error = await outcome(pair.service("service").one(which))
            else:
                async with pair.service("service").many.open(which) as call:
                    assert await call.receive() == 1
                    error = await outcome(call.receive())
            assert isinstance(error, duplex.Internal | duplex.ResourceExhausted), which
        await goes_on(pair)


async def test_handler_that_swallows_its_cancellation_is_answered(autojump_clock: Any) -> None:
    service = duplex.Service("service")
    ended: list[str] = []

    @service.rpc
    async def stay() -> int:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.append("cancelled")
        return 1

    async with linked(service, odd) as pair:
        with trio.move_on_after(1):
            await pair.service("service").stay()
        await until(lambda: ended)
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.service("service").stay.with_options(timeout=1)()
        await until(lambda: len(ended) == 2)
        await goes_on(pair)


async def test_interrupt_in_a_thread_is_no_interrupt() -> None:
    """Ctrl-C strikes the main thread only; a plain function that raises the exception must not end the peer."""
    service = duplex.Service("service")

    @service.rpc
    def one() -> int:
        raise KeyboardInterrupt

    @service.rpc
    def many() -> Any:
        yield 1
        raise KeyboardInterrupt

    async with linked(service, odd) as pair:
        remote = pair.service("service")
        assert type(await outcome(remote.one())) is duplex.Internal
        assert type(await outcome(remote.one.with_options(idempotency_key="k")())) is duplex.Internal
        async with remote.many.open() as call:
            assert await call.receive() == 1
            assert type(await outcome(call.receive())) is duplex.Internal
        await goes_on(pair)


async def test_stubborn_group_beside_a_cancellation(autojump_clock: Any) -> None:
    """What a handler raises while it is cancelled costs neither its peer nor the link."""
    service = duplex.Service("service")
    ended: list[str] = []

    class Worse(BaseExceptionGroup[BaseException]):
        def derive(self, excs: Any) -> Any:
            raise RuntimeError("no other group")

    @service.rpc
    async def stay() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            ended.append("cancelled")
            raise Worse("both", [error, Stubborn("g", [ValueError("beside")])]) from None

    async with linked(service, odd) as pair:
        for _ in range(3):
            with trio.move_on_after(1):
                await pair.service("service").stay()
        await until(lambda: len(ended) == 3)
        await goes_on(pair)


# -- at the caller -------------------------------------------------------------------------------------


async def test_details_that_cannot_be_read_do_not_hide_the_error() -> None:
    async with linked(odd) as pair:
        entered = trio.Event()
        service = duplex.Service("late")

        @service.rpc
        async def wait() -> None:
            entered.set()
            await trio.sleep_forever()

        pair.server.add_service(service)
        await until(lambda: "late" in pair.link.services)
        for opened in (False, True):
            errors: list[Any] = []

            async def call(opened: bool, errors: list[Any]) -> None:
                method = pair.service("late").wait
                if opened:
                    async with method.open() as made:
                        errors.append(await outcome(made.result()))
                else:
                    errors.append(await outcome(method()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, opened, errors)
                await entered.wait()
                entered = trio.Event()
                (served,) = pair.back._inside.channels.users.values()
                assert isinstance(served, ServedChannel)
                pair.back._inside.channels.close(served.channel, 5, message="not there", details=b"\xc1")
                served.finish(None)
                served._stop("remote")
            assert type(errors[0]) is duplex.NotFound
            assert "details cannot be read" in errors[0].__notes__[0]
        await goes_on(pair)


@dataclasses.dataclass
class Fussy:
    """A class of results whose constructor raises what it likes."""

    x: int

    def __post_init__(self) -> None:
        raise LookupError("not this one")


class Echo(Protocol):
    async def one(self) -> Fussy: ...

    many: duplex.Streaming[[], Any, Fussy]


async def test_result_whose_class_raises_reaches_its_caller() -> None:
    service = duplex.Service("echo")

    @service.rpc
    async def one() -> Any:
        return {"x": 1}

    @service.rpc
    async def many() -> Any:
        yield {"x": 1}
        yield {"x": 2}

    async with linked(service, odd) as pair:
        typed = pair.client.service(Echo)
        with pytest.raises(LookupError, match="not this one"):
            await typed.one()
        async with typed.many.open() as call:
            for _ in range(2):
                with pytest.raises(LookupError, match="not this one"):
                    await call.receive()
        await goes_on(pair)


@pytest.mark.parametrize("reason", [42, "\ud800", "x" * 1_000_000, KeyError("k")])
async def test_cancelling_for_an_odd_reason(reason: Any) -> None:
    service = duplex.Service("service")
    ended: list[str | None] = []

    @service.rpc
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(duplex.current_call().cancelled_by)

    @service.rpc
    async def give_up() -> None:
        duplex.current_call().cancel(reason)
        await trio.sleep_forever()

    async with linked(service, odd) as pair:
        async with pair.service("service").wait.open() as call:
            await pair.settle()
            call.cancel(reason)
        await until(lambda: ended == ["remote"])
        with pytest.raises(duplex.CallCancelled):
            await pair.service("service").give_up()
        await goes_on(pair)


# -- what a handler reaches ----------------------------------------------------------------------------


async def test_handler_reaches_nothing_by_which_it_could_answer() -> None:
    service = duplex.Service("service")
    found: list[list[str]] = []

    @service.rpc
    async def look() -> None:
        call = duplex.current_call()
        found.append([name for name in dir(call) if not name.startswith("_")])
        assert repr(call) == "<call of service.look from client>"
        assert (call.codec, call.notify, call.handler.method) == ("msgpack", False, "service.look")
        call.finish(None)  # type: ignore[attr-defined]

    async with linked(service, odd, server={"debug": True}) as pair:
        with pytest.raises(duplex.Internal, match="'CallContext' object has no attribute 'finish'"):
            await pair.service("service").look()
        await goes_on(pair)
    assert found == [
        [
            "attempt",
            "cancel",
            "cancelled_by",
            "codec",
            "deadline",
            "handler",
            "link",
            "metadata",
            "method",
            "notify",
            "peer",
            "state",
            "statistics",
            "time_remaining",
            "trailers",
        ]
    ]
