"""What a caller gets when something goes wrong at either side; and that everything else goes on."""

from __future__ import annotations

import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import duplex
from duplex._errors import ERROR_CLASSES
from tests.engine.error_service import errors, goes_on
from tests.engine.helpers import collect, linked, outcome


async def test_unknown_method(endpoint: str) -> None:
    async with linked(errors, endpoint=endpoint) as pair:
        with pytest.raises(duplex.Unimplemented, match="service 'errors' has no method 'gone'") as caught:
            await pair.service("errors").gone(1)
        assert "good" in caught.value.message, "it says what there is"
        assert caught.value.method == "errors.gone"
        assert caught.value.peer == "server"
        async with pair.service("errors").gone.open() as call:
            with pytest.raises(duplex.Unimplemented):
                await call.receive()
            with pytest.raises(duplex.Unimplemented):
                await call.send(1)
            with pytest.raises(duplex.Unimplemented):
                await call.result()
        await goes_on(pair)


async def test_unknown_service() -> None:
    async with linked(errors) as pair:
        with pytest.raises(duplex.Unimplemented, match=r"no service 'other'.*errors"):
            await pair.service("other").method()
        with pytest.raises(duplex.Unimplemented, match="no service 'other'"):
            await pair.link.service("other").method()
        await goes_on(pair)


async def test_name_that_is_no_method() -> None:
    from duplex.engine.calling import Request

    async with linked(errors) as pair:
        request = Request("nodot", "nodot", pair.client._inside.default_codec)
        with pytest.raises(duplex.Unimplemented, match=r"named service\.method"):
            await pair.link._inside.caller.unary(request, [], {})
        with pytest.raises(duplex.LocalProtocolError, match="method name"):
            await pair.service("errors")["x" * 300]()
        await goes_on(pair)


# -- handlers that fail --------------------------------------------------------------------------------


HOWS = ["exception", "exit", "base", "stop", "generator-exit", "group", "unicode"]


_INCIDENT = re.compile(r"incident ([0-9a-f]{12})")


def check_incident(error: Any, log: str, *, secret: bool) -> None:
    """The caller has a number and nothing else; the log has the number and the traceback."""
    assert type(error) is duplex.Internal, error
    found = _INCIDENT.search(error.message)
    assert found is not None
    assert error.details == {"incident": found[1]}
    assert "secret" not in repr(error.message) + repr(error.details)
    assert "Traceback" not in repr(error.details)
    assert not getattr(error, "__notes__", [])
    assert f"incident {found[1]}" in log
    assert not secret or "the secret of the handler" in log


@pytest.mark.parametrize("how", [*HOWS, "nursery"])
async def test_unexpected_exception(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(errors) as pair:
        check_incident(await outcome(pair.service("errors").crash(how)), caplog.text, secret=True)
        await goes_on(pair)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", ["crash_in_thread", "crash_inline"])
async def test_unexpected_exception_of_a_plain_function(
    where: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(errors) as pair:
        check_incident(await outcome(pair.service("errors")[where](how)), caplog.text, secret=True)
        await goes_on(pair)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", ["crash_stream", "crash_plain_stream"])
async def test_unexpected_exception_of_a_generator(
    where: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(errors) as pair:
        async with pair.service("errors")[where].open(how) as call:
            assert await call.receive() == 1
            check_incident(await outcome(call.receive()), caplog.text, secret=True)
        await goes_on(pair)


@pytest.mark.parametrize("method", ["opaque", "opaque_inline"])
async def test_result_that_cannot_travel(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(errors) as pair:
        check_incident(await outcome(pair.service("errors")[method]()), caplog.text, secret=False)
        await goes_on(pair)


async def test_streamed_result_that_cannot_travel(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(errors) as pair:
        async with pair.service("errors").opaque_stream.open() as call:
            assert await call.receive() == 1
            check_incident(await outcome(call.receive()), caplog.text, secret=False)
        await goes_on(pair)


@pytest.mark.parametrize("how", ["option", "environment"])
async def test_debug_lets_the_traceback_through(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"debug": True} if how == "option" else {}
    monkeypatch.setenv("DUPLEX_DEBUG", "0" if how == "option" else "1")
    async with linked(errors, server=options) as pair:
        error = await outcome(pair.service("errors").crash("exception"))
        assert "ValueError: the secret of the handler" in error.message
        assert "in crash" in error.__notes__[0]
        error = await outcome(pair.service("errors").crash("group"))
        assert "KeyError" in error.__notes__[0]
        await goes_on(pair)


async def test_debug_off_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DUPLEX_DEBUG", "1")
    async with linked(errors, server={"debug": False}) as pair:
        check_incident(await outcome(pair.service("errors").crash("base")), caplog.text, secret=True)


# -- errors that are meant for the caller --------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(ERROR_CLASSES), ids=lambda code: duplex.StatusCode(code).name)
async def test_every_status(code: int) -> None:
    details = {"list": [1, "two", b"3"], "none": None}
    async with linked(errors) as pair:
        error = await outcome(pair.service("errors").status(code, "message", details))
        assert type(error) is ERROR_CLASSES[code]
        assert (error.code, error.message, error.details) == (code, "message", details)
        assert str(error) == "errors.status at server: message"
        error = await outcome(pair.service("errors").status(code))
        assert (error.message, error.details) == ("", None)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.code, again.method, str(again)) == (error.code, error.method, str(error))


async def test_every_kind_of_function_raises_for_the_caller() -> None:
    service = duplex.Service("service")

    @service.rpc
    def in_thread() -> None:
        raise duplex.AlreadyExists("thread", details=1)

    @service.rpc(inline=True)
    def inline() -> None:
        raise duplex.AlreadyExists("inline", details=1)

    @service.rpc
    async def stream() -> AsyncIterator[int]:
        yield 1
        raise duplex.AlreadyExists("stream", details=1)

    @service.rpc
    def plain_stream() -> Iterator[int]:
        yield 1
        raise duplex.AlreadyExists("plain_stream", details=1)

    async with linked(service, errors) as pair:
        remote = pair.service("service")
        for name in ("in_thread", "inline"):
            with pytest.raises(duplex.AlreadyExists, match=name) as caught:
                await remote[name]()
            assert caught.value.details == 1
        for name in ("stream", "plain_stream"):
            async with remote[name].open() as call:
                assert await call.receive() == 1
                with pytest.raises(duplex.AlreadyExists, match=name):
                    await call.receive()
        await goes_on(pair)


async def test_error_raised_in_a_nursery() -> None:
    async with linked(errors) as pair:
        with pytest.raises(duplex.NotFound, match="in a task") as caught:
            await pair.service("errors").raise_in_nursery()
        assert caught.value.details == 1
        await goes_on(pair)


async def test_error_of_a_call_further_on_is_not_ours(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that lets the error of a call it made escape has failed; it did not say NotFound."""
    home = duplex.Service("home")

    @home.rpc
    async def refuse() -> None:
        raise duplex.NotFound("the secret of the handler")

    async with linked(errors, offers=[home]) as pair:
        check_incident(await outcome(pair.service("errors").pass_on()), caplog.text, secret=True)
        await goes_on(pair)


async def test_details_that_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(errors, client={"limits": duplex.Limits(max_message=100_000)}) as pair:
        remote = pair.service("errors")
        calls: list[Callable[[], Awaitable[Any]]] = [
            remote.details_that_cannot_travel,
            lambda: remote.details_too_large(120_000),
            lambda: remote.details_too_large(60_000),
        ]
        for call in calls[:2]:
            with pytest.raises(duplex.NotFound, match="still this message") as caught:
                await call()
            assert caught.value.details is None
        assert len(caplog.records) == 2, "both were noted"
        with pytest.raises(duplex.NotFound) as caught:
            await calls[2]()
        assert caught.value.details == bytes(60_000)
        await goes_on(pair)


async def test_message_that_is_too_long() -> None:
    async with linked(errors) as pair:
        error = await outcome(pair.service("errors").status(5, "x" * 100_000))
        assert type(error) is duplex.NotFound
        assert 8000 < len(error.message) < 9000
        await goes_on(pair)


async def test_caller_sees_items_before_the_error() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def three() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        raise duplex.OutOfRange("no more")

    async with linked(service) as pair:
        async with pair.service("service").three.open() as call:
            await pair.settle()
            assert await collect(call, 3) == [0, 1, 2]
            with pytest.raises(duplex.OutOfRange):
                await call.receive()


async def test_status_number_of_a_newer_peer() -> None:
    async with linked(errors) as pair:
        handler = errors.methods["none"]

        class Future:
            """A handler whose status nobody knows yet."""

            def __getattr__(self, name: str) -> Any:
                return getattr(handler, name)

            async def function(self) -> None:
                error = duplex.RPCError("from the future")
                error.code = 77  # type: ignore[assignment]
                raise error

        pair.server._inside.services.handlers["errors.none"] = Future()
        error = await outcome(pair.service("errors").none())
        assert type(error) is duplex.Unknown
        assert error.message == "from the future"


async def test_errors_of_the_applications_own_classes() -> None:
    """A subclass says what its base class says."""

    class OutOfStock(duplex.FailedPrecondition):
        def __init__(self, item: str) -> None:
            super().__init__(f"{item} is sold out", details={"item": item})

    service = duplex.Service("service")

    @service.rpc
    async def buy(item: str) -> None:
        raise OutOfStock(item)

    async with linked(service) as pair:
        with pytest.raises(duplex.FailedPrecondition, match="tea is sold out") as caught:
            await pair.service("service").buy("tea")
        assert type(caught.value) is duplex.FailedPrecondition
        assert caught.value.details == {"item": "tea"}


async def test_error_with_metadata_that_cannot_travel(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def refuse() -> None:
        error = duplex.NotFound("still this message", details=1)
        error.metadata = {"UPPER": "x"}
        raise error

    async with linked(service) as pair:
        with pytest.raises(duplex.NotFound, match="still this message"):
            await pair.service("service").refuse()
        assert caplog.records
