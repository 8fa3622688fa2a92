"""``@rpc(resumable=True)``: what is refused when the function is registered, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import duplex
from duplex.service import describe_service


async def fits(topic: str, *, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, str]]:
    yield duplex.Tracked(1, topic)


async def positional(cursor: str = "") -> AsyncIterator[duplex.Tracked[str, bytes]]:
    yield duplex.Tracked("", b"")


def plain(*, cursor: float = 0.0) -> Iterator[duplex.Tracked[float, dict[str, int]]]:
    yield duplex.Tracked(0.0, {})


async def bare(*, cursor: Any = None):  # type: ignore[no-untyped-def]
    yield duplex.Tracked(1, 2)


@pytest.mark.parametrize("function", [fits, positional, plain, bare])
def test_functions_that_can_be_resumable(function: Callable[..., Any]) -> None:
    service = duplex.Service("service")
    service.add(function, resumable=True)
    assert service.methods[function.__name__].resumable
    assert not duplex.Service("service").methods


async def one() -> int:
    return 1


async def takes_a_stream(
    numbers: duplex.ReceiveChannel[int], *, cursor: int | None = None
) -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def takes_a_channel(
    to: duplex.SendChannel[int], *, cursor: int | None = None
) -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def no_cursor() -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def cursor_among_others(**more: int) -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def cursor_by_position(cursor: int = 0, /) -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def needs_a_cursor(cursor: int) -> AsyncIterator[duplex.Tracked[int, int]]:
    yield duplex.Tracked(1, 1)


async def yields_values(*, cursor: int | None = None) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (one, "gives one result"),
        (takes_a_stream, "streams its input, which cannot be sent again"),
        (takes_a_channel, "the parameter 'to' is a channel"),
        (no_cursor, r"give it a parameter `\*, cursor: ... \| None = None`"),
        (cursor_among_others, "give it a parameter"),
        (cursor_by_position, "give it a parameter"),
        (needs_a_cursor, "give its parameter 'cursor' a default"),
        (yields_values, r"is one of duplex\.Tracked\[cursor type, value type\]"),
    ],
)
def test_functions_that_cannot(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=words):
        duplex.rpc(resumable=True)(function)


def test_reflection_tells_it() -> None:
    service = duplex.Service("service")
    service.add(fits, resumable=True)
    service.add(positional)
    resumable, ordinary = describe_service(service).methods
    assert (resumable.resumable, ordinary.resumable) == (True, False)
    assert resumable.signature == (
        "fits(topic: str, *, cursor: int | None = None) -> AsyncIterator[Tracked[int, str]]"
    )
    assert resumable.result.type == "Tracked[int, str]"
