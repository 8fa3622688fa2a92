"""Serves what is attacked, on a port of 127.0.0.1 that it prints, until its standard input ends."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import trio

import duplex
from tests.engine.helpers import serve_until_eof

target = duplex.Service("target")
_never = threading.Event()

for _number in range(150):

    @target.rpc(name=f"method_{_number:03d}_of_a_service_with_many")
    async def _method() -> None:
        """One of those that a refusal could list."""


@target.rpc
async def add(a: int, b: int) -> int:
    """What honest clients call."""
    return a + b


@target.rpc
async def nap(seconds: float) -> None:
    """Keep a handler."""
    await trio.sleep(seconds)


@target.rpc
def hold(seconds: float) -> None:
    """Keep a thread."""
    _never.wait(seconds)


@target.rpc
def ask(question: duplex.Callback[[], None]) -> None:
    """Keep a thread until the caller has answered."""
    trio.from_thread.run(question)


@target.rpc
async def ask_often(question: duplex.Callback[[], None], times: int) -> None:
    """Call back, again and again."""
    for _ in range(times):
        await question()


@target.rpc
async def swallow(value: object) -> None:
    """Take whatever it is."""


@target.rpc
async def join(sink: duplex.SendChannel[int], source: duplex.ReceiveChannel[int]) -> None:
    """Send what is received."""
    async for number in source:
        await sink.send(number)


@target.rpc(resumable=True)
async def follow(*, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, int]]:
    """Count on from where somebody was."""
    number = -1 if cursor is None else cursor
    while True:
        number += 1
        yield duplex.Tracked(number, number)


@target.rpc
async def count_all(numbers: duplex.ReceiveChannel[int]) -> int:
    """Take items."""
    total = 0
    async for _ in numbers:
        total += 1
    return total


@target.rpc
def count(numbers: int) -> Iterator[int]:
    """Keep a thread from number to number."""
    yield from range(numbers)


@target.rpc
async def tick() -> AsyncIterator[int]:
    """Send without end, in small items."""
    while True:
        yield 0


@target.rpc
async def download(size: int) -> AsyncIterator[bytes]:
    """Send so many bytes."""
    chunk = bytes(60_000)
    for _ in range(size // len(chunk)):
        yield chunk


@target.rpc
async def sink(items: duplex.ReceiveChannel[bytes]) -> None:
    """Take nothing."""
    await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(functools.partial(serve_until_eof, target, endpoint=sys.argv[1]))
