"""Headers, trailers, and the options that calls are made with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

import duplex
from tests.engine.helpers import collect, linked, outcome

meta = duplex.Service("meta")


@meta.rpc
async def echo() -> dict[str, Any]:
    """Return the headers, and send them back as trailers."""
    call = duplex.current_call()
    call.trailers.update(call.metadata)
    return dict(call.metadata)


@meta.rpc
async def stream() -> AsyncIterator[int]:
    call = duplex.current_call()
    yield 1
    call.trailers["count"] = "1"


@meta.rpc
async def refuse() -> None:
    call = duplex.current_call()
    call.trailers["a"] = "trailer"
    error = duplex.Aborted("refused")
    error.metadata = {"b": b"from the error"}
    raise error


@meta.rpc
async def trail(trailers: dict[Any, Any]) -> str:
    duplex.current_call().trailers.update(trailers)
    return "done"


@meta.rpc(inline=True)
def trail_inline(trailers: dict[Any, Any]) -> str:
    duplex.current_call().trailers.update(trailers)
    return "done"


BINARY: Mapping[str, str | bytes] = {"text": "ünï ☺", "data-bin": bytes(range(256)), "empty": ""}


async def test_headers_reach_the_handler(endpoint: str) -> None:
    async with linked(meta, endpoint=endpoint) as pair:
        assert await pair.service("meta").with_options(metadata=BINARY).echo() == BINARY
        assert await pair.service("meta").echo() == {}


async def test_options_add_up_and_do_not_touch_the_original() -> None:
    async with linked(meta) as pair:
        plain = pair.service("meta")
        one = plain.with_options(metadata={"a": "1", "b": "1"})
        two = one.with_options(metadata={"b": "2"}).with_options(timeout=5)
        assert await two.echo() == {"a": "1", "b": "2"}
        assert await one.echo() == {"a": "1", "b": "1"}
        assert await two.with_options(metadata=None).echo() == {}
        assert await plain.echo.with_options(metadata={"c": "3"})() == {"c": "3"}
        assert await plain.echo() == {}


async def test_trailers_come_with_the_result() -> None:
    async with linked(meta) as pair:
        async with pair.service("meta").with_options(metadata=BINARY).echo.open() as call:
            await call.result()
            assert call.trailers == BINARY
        async with pair.service("meta").stream.open() as call:
            assert await collect(call) == [1]
            assert call.trailers == {"count": "1"}


async def test_trailers_come_with_an_error() -> None:
    async with linked(meta) as pair:
        with pytest.raises(duplex.Aborted) as caught:
            await pair.service("meta").refuse()
        assert caught.value.metadata == {"a": "trailer", "b": b"from the error"}


@pytest.mark.parametrize("method", ["trail", "trail_inline"])
@pytest.mark.parametrize(
    "trailers",
    [
        {"UPPER": "x"},
        {"a": 1},
        {"": "x"},
        {"a": "x" * 20_000},
        {str(n): "" for n in range(300)},
        {"a": "\ud800"},
    ],
    ids=["key", "value", "empty", "large", "many", "surrogate"],
)
async def test_trailers_that_cannot_travel(
    method: str, trailers: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an error, and the call is over on both sides."""
    service = duplex.Service("service")

    @service.rpc(name=method, inline=method == "trail_inline")
    def bad() -> str:
        duplex.current_call().trailers.update(trailers)
        return "done"

    async with linked(service) as pair:
        result = await outcome(pair.service("service")[method]())
        assert isinstance(result, (duplex.Internal, duplex.ResourceExhausted)), result
        assert caplog.text


@pytest.mark.parametrize(
    "metadata",
    [{"UPPER": "x"}, {"a b": "x"}, {"a": 1}, {"": "x"}, {1: "x"}, {"duplex-x": "x"}, {"a": "\ud800"}],
    ids=str,
)
async def test_wrong_metadata_is_refused_where_it_is_set(metadata: Any) -> None:
    async with linked(meta) as pair:
        with pytest.raises(duplex.ConfigurationError, match="metadata"):
            pair.service("meta").with_options(metadata=metadata)


async def test_too_much_metadata_is_refused_before_it_is_sent() -> None:
    async with linked(meta, server={"limits": duplex.Limits(max_metadata=100)}) as pair:
        remote = pair.service("meta").with_options(metadata={"a": "x" * 100})
        for _ in range(2):
            with pytest.raises(duplex.ResourceExhausted, match=r"max_metadata") as caught:
                await remote.echo()
            assert caught.value.may_have_executed is False
            assert caught.value.method == "meta.echo"
            with pytest.raises(duplex.ResourceExhausted, match=r"max_metadata"):
                async with remote.echo.open():
                    pass  # pragma: no cover
            with pytest.raises(duplex.ResourceExhausted, match=r"max_metadata"):
                await remote.echo.notify()
        assert await pair.service("meta").echo() == {}


@pytest.mark.parametrize(
    "options",
    [{"timeout": float("nan")}, {"timout": 1}, {"timeout": "1"}, {"timeout": True}, {"codec": "yaml"}],
    ids=str,
)
async def test_wrong_options(options: dict[str, Any]) -> None:
    async with linked(meta) as pair:
        with pytest.raises(duplex.ConfigurationError):
            pair.service("meta").with_options(**options)
        with pytest.raises(duplex.ConfigurationError):
            pair.service("meta").echo.with_options(**options)


async def test_json_codec() -> None:
    """The caller chooses how a call's payloads are written."""
    service = duplex.Service("service")

    @service.rpc
    async def total(numbers: duplex.ReceiveChannel[int], start: int) -> dict[str, Any]:
        return {"total": start + sum([number async for number in numbers])}

    @service.rpc
    async def fail() -> None:
        raise duplex.NotFound("nothing", details={"looked": ["here"]})

    async with linked(service) as pair:
        remote = pair.service("service").with_options(codec="json")
        async with remote.total.open(start=10) as call:
            for number in range(5):
                await call.send(number)
            assert await call.result() == {"total": 20}
        with pytest.raises(duplex.NotFound) as caught:
            await remote.fail()
        assert caught.value.details == {"looked": ["here"]}


async def test_json_codec_is_what_travels() -> None:
    """A codec that only pretended to be chosen would pass every other test."""
    from duplex.codec import get_codec
    from duplex.engine.calling import Request

    service = duplex.Service("service")

    @service.rpc
    async def echo(value: int) -> int:
        assert duplex.current_call().codec == "json"
        return value

    async with linked(service) as pair:
        request = Request("service.echo", "service.echo", get_codec("json"))
        assert await pair.link._inside.caller.unary(request, [1], {}) == 1


async def test_raw_codec() -> None:
    """Bytes in, bytes out; what is not bytes is refused by whoever would send it."""
    service = duplex.Service("service")

    @service.rpc
    async def echo(data: bytes) -> bytes:
        return data

    @service.rpc
    async def number(data: bytes) -> int:
        return len(data)

    @service.rpc
    async def crash(data: bytes) -> bytes:
        raise ValueError("the secret of the handler")

    async with linked(service) as pair:
        remote = pair.service("service").with_options(codec="raw")
        assert bytes(await remote.echo(b"\x00\xff")) == b"\x00\xff"
        with pytest.raises(duplex.EncodeError):
            await remote.echo(1)
        with pytest.raises(duplex.Internal, match="incident"):
            await remote.number(b"abc")
        with pytest.raises(duplex.Internal, match="incident") as caught:
            await remote.crash(b"abc")
        assert "secret" not in caught.value.message
        assert bytes(await remote.echo(b"again")) == b"again"
