"""Arguments that do not fit, and messages that are too large: refused with words that help, by whoever can first."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import duplex
from tests.engine.error_service import Point, errors, goes_on
from tests.engine.helpers import linked, made, outcome


@pytest.mark.parametrize(
    ("method", "arguments", "named", "problem"),
    [
        ("good", ["text"], {}, "'value'"),
        ("good", [1.5], {}, "'value'"),
        ("good", [], {"value": None}, "'value'"),
        ("good", [1, 2], {}, "got 2"),
        ("good", [], {"valeu": 1}, "'valeu'"),
        ("good", [1], {"value": 2}, "twice"),
        ("take", [1], {}, "'b'"),
        ("take", [], {}, "'a', 'b'"),
        ("take", [1], {"b": "x"}, "'b'"),
        ("take", [1, "x", 2, 3], {}, "got 4"),
        ("take", [1, b"x"], {}, "'b'"),
        ("none", [1], {}, "takes no arguments"),
        ("none", [], {"a": 1}, "takes no arguments"),
        ("point", [{"x": 1, "y": "z"}], {}, r"'at'.*y"),
        ("point", [{"x": 1}], {}, r"'at'.*y"),
        ("point", [Point(1, 2), 2.0], {}, "got 2"),
        ("point", [Point(1, 2)], {"scale": "x"}, "'scale'"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_wrong_arguments(
    method: str, arguments: list[Any], named: dict[str, Any], problem: str
) -> None:
    async with linked(errors) as pair:
        remote = pair.service("errors")[method]
        with pytest.raises(duplex.InvalidArgument, match=f"errors.{method}.*{problem}"):
            await remote(*arguments, **named)
        async with remote.open(*arguments, **named) as call:
            with pytest.raises(duplex.InvalidArgument, match=problem):
                await call.result()
        await goes_on(pair)


async def test_wrong_item_in_a_stream() -> None:
    async with linked(errors) as pair:
        async with pair.service("errors").sum_points.open() as call:
            await call.send(Point(1, 2))
            await call.send({"x": 1, "y": []})
            with pytest.raises(duplex.InvalidArgument, match=r"item 2.*y"):
                await call.result()
        await goes_on(pair)


async def test_argument_that_cannot_travel() -> None:
    async with linked(errors) as pair:
        remote = pair.service("errors")
        for opened in (False, True):
            with pytest.raises(duplex.EncodeError, match="object"):
                await made(remote.good, object(), opened=opened)
        with pytest.raises(duplex.EncodeError):
            await remote.good.notify(object())
        async with remote.sum_points.open() as call:
            with pytest.raises(duplex.EncodeError):
                await call.send(object())
            await call.send(Point(1, 2))
            assert await call.result() == 3, "the channel stays usable"
        await goes_on(pair)


# -- sizes ---------------------------------------------------------------------------------------------


SMALL = duplex.Limits(max_message=100_000)


async def test_request_that_is_too_large(endpoint: str) -> None:
    async with linked(errors, endpoint=endpoint, server={"limits": SMALL}) as pair:
        remote = pair.service("errors")
        with pytest.raises(duplex.MessageTooLarge) as caught:
            await remote.good(bytes(100_001))
        error = caught.value
        assert error.limit == 100_000
        assert error.size > 100_000
        assert str(error.size) in str(error)
        assert str(error.limit) in str(error)
        assert "Limits(max_message" in str(error)
        assert error.may_have_executed is False
        assert error.code is duplex.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(duplex.MessageTooLarge):
            async with remote.good.open(bytes(100_001)):
                pass  # pragma: no cover
        with pytest.raises(duplex.MessageTooLarge):
            await remote.good.notify(bytes(100_001))
        await goes_on(pair)


async def test_streamed_item_that_is_too_large() -> None:
    async with linked(errors, server={"limits": SMALL}) as pair:
        async with pair.service("errors").sum_points.open() as call:
            with pytest.raises(duplex.MessageTooLarge):
                await call.send(bytes(100_001))
            await call.send(Point(1, 2))
            assert await call.result() == 3, "the channel stays usable"
        await goes_on(pair)


@pytest.mark.parametrize("method", ["big", "big_inline"])
async def test_response_that_is_too_large(method: str, endpoint: str) -> None:
    async with linked(errors, endpoint=endpoint, client={"limits": SMALL}) as pair:
        with pytest.raises(duplex.ResourceExhausted, match=r"100000.*Limits\(max_message"):
            await pair.service("errors")[method](100_001)
        async with pair.service("errors")[method].open(100_001) as call:
            with pytest.raises(duplex.ResourceExhausted):
                await call.result()
        await goes_on(pair)


async def test_streamed_result_that_is_too_large() -> None:
    async with linked(errors, client={"limits": SMALL}) as pair:
        async with pair.service("errors").big_stream.open(100_001) as call:
            assert await call.receive() == b"small"
            with pytest.raises(duplex.ResourceExhausted, match=r"Limits\(max_message"):
                await call.receive()
        await goes_on(pair)


async def test_raised_limit() -> None:
    limits = duplex.Limits(max_message=40 * 1024 * 1024)
    async with linked(errors, server={"limits": limits}, client={"limits": limits}) as pair:
        assert len(await pair.service("errors").big(30 * 1024 * 1024)) == 30 * 1024 * 1024


# -- the smallest limits -------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"max_commands": 1}, {"max_message": 1024, "max_metadata": 0}], ids=str)
async def test_smallest_limits(limits: dict[str, int]) -> None:
    """All that fits still works."""
    options = {"limits": duplex.Limits(max_channels=50, **limits)}
    results: list[int] = []

    async with linked(errors, server=options, client=options) as pair:

        async def call(number: int) -> None:
            results.append(await pair.service("errors").good(number))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(call, number)
        assert sorted(results) == list(range(50))
        async with pair.service("errors").sum_points.open() as adding:
            for number in range(50):
                await adding.send(Point(number, 0))
            assert await adding.result() == sum(range(50))


async def test_no_attachments_are_taken() -> None:
    """Large buffers go into the message, or the error names the limit."""
    options = {"limits": duplex.Limits(max_attachments=0)}
    async with linked(errors, server=options, client=options) as pair:
        for call in (pair.service("errors").good(bytes(200_000)), pair.service("errors").big(200_000)):
            result = await outcome(call)
            if isinstance(result, duplex.ResourceExhausted):
                assert "max_attachments" in result.message
            else:
                assert isinstance(result, (bytes, duplex.InvalidArgument))
        await goes_on(pair)
