"""What the tests of errors call: methods that fail in every way there is."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio

import duplex
from duplex._errors import ERROR_CLASSES
from tests.engine.helpers import Pair


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Odd(BaseException):
    """Not even an Exception."""


errors = duplex.Service("errors")


@errors.rpc
async def good(value: int = 1) -> int:
    return value


@errors.rpc
async def point(at: Point, *, scale: float = 1.0) -> Point:
    return at


@errors.rpc
async def take(a: int, b: str, /, c: int = 1) -> None:
    raise AssertionError("this handler must not run")  # pragma: no cover


@errors.rpc
async def none() -> None:
    pass


@errors.rpc
async def sum_points(points: duplex.ReceiveChannel[Point]) -> int:
    return sum([p.x + p.y async for p in points])


@errors.rpc
async def big(size: int) -> bytes:
    return bytes(size)


@errors.rpc
async def big_stream(size: int) -> AsyncIterator[bytes]:
    yield b"small"
    yield bytes(size)


@errors.rpc(inline=True)
def big_inline(size: int) -> bytes:
    return bytes(size)


@errors.rpc
async def opaque() -> Any:
    return object()


@errors.rpc(inline=True)
def opaque_inline() -> Any:
    return object()


@errors.rpc
async def opaque_stream() -> AsyncIterator[Any]:
    yield 1
    yield object()


def _crash(how: str) -> None:
    if how == "exception":
        raise ValueError("the secret of the handler")
    if how == "exit":
        raise SystemExit("the secret of the handler")
    if how == "base":
        raise Odd("the secret of the handler")
    if how == "stop":
        raise StopIteration("the secret of the handler")
    if how == "generator-exit":
        raise GeneratorExit("the secret of the handler")
    if how == "group":
        raise ExceptionGroup("many", [ValueError("the secret of the handler"), KeyError("b")])
    if how == "unicode":
        raise ValueError("the secret of the handler \ud800")


@errors.rpc
async def crash(how: str) -> None:
    if how == "nursery":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(_fail_in_task, ValueError("the secret of the handler"))
            nursery.start_soon(_fail_in_task, KeyError("the secret of the handler"))
    _crash(how)


@errors.rpc
def crash_in_thread(how: str) -> None:
    _crash(how)


@errors.rpc(inline=True)
def crash_inline(how: str) -> None:
    _crash(how)


@errors.rpc
async def crash_stream(how: str) -> AsyncIterator[int]:
    yield 1
    _crash(how)


@errors.rpc
def crash_plain_stream(how: str) -> Iterator[int]:
    yield 1
    _crash(how)


async def _fail_in_task(error: Exception) -> None:
    await trio.lowlevel.checkpoint()
    raise error


@errors.rpc
async def status(code: int, message: str = "", details: Any = None) -> None:
    if code in ERROR_CLASSES:
        raise ERROR_CLASSES[code](message, details=details)


@errors.rpc
async def raise_in_nursery() -> None:
    """A nursery wraps what its tasks raise; alone in there, it is meant for the caller."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_in_task, duplex.NotFound("in a task", details=1))


@errors.rpc
async def pass_on() -> None:
    """Let the error of another call through."""
    await duplex.current_call().link.service("home").refuse()


@errors.rpc
async def details_that_cannot_travel() -> None:
    raise duplex.NotFound("still this message", details=object())


@errors.rpc
async def details_too_large(size: int) -> None:
    raise duplex.NotFound("still this message", details=bytes(size))


async def goes_on(pair: Pair) -> None:
    """Check that the link does, and that it is the same one."""
    assert pair.client.links == [pair.link]
    assert await pair.service("errors").good(5) == 5
