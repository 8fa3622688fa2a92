"""Methods that are awkward to call from a command line."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio

import duplex

odd = duplex.Service("odd", version="2.1.0", description="Awkward methods.\n\nMore about them.")

cancelled = trio.Event()


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    GREEN = "green"


class Blob(msgspec.Struct):
    """Bytes within something else."""

    name: str
    data: bytes = b""


@odd.rpc(inline=True, idempotent=True, deprecated="use nothing")
def echo(value):  # type: ignore[no-untyped-def]
    """Return a value as it came."""
    return value


@odd.rpc(inline=True)
def text(word: str) -> str:
    """Return a string as it came."""
    return word


@odd.rpc(inline=True)
def maybe(value: int | str | None = None, *, colour: Colour = Colour.RED) -> list[Any]:
    """Return what a union and an enumeration made of words."""
    return [value, colour.value]


@odd.rpc(inline=True)
def join(first: str, *rest: int, sep: str = " ", **extra: float) -> str:
    """Join all kinds of parameters."""
    return sep.join([first, *map(str, rest), *(f"{key}={value}" for key, value in sorted(extra.items()))])


@odd.rpc(inline=True)
def backwards(data: bytes) -> bytes:
    """Return bytes in the other order."""
    return data[::-1]


@odd.rpc(inline=True)
def blobs(items: list[Blob]) -> dict[str, bytes]:
    """Return bytes by name."""
    return {item.name: item.data for item in items}


@odd.rpc(inline=True)
def later(when: dt.datetime, days: int = 1) -> dt.datetime:
    """Return a later time."""
    return when + dt.timedelta(days=days)


@odd.rpc(inline=True)
def special() -> dict[str, Any]:
    """Return numbers that JSON has no form for."""
    return {"big": float("inf"), "none": float("nan"), "numbered": {1: -float("inf")}}


@odd.rpc(inline=True)
def headers() -> dict[str, Any]:
    """Return the metadata of the call, and trailers beside it."""
    call = duplex.current_call()
    call.trailers["cost"] = "3"
    return dict(call.metadata)


@odd.rpc
async def gather(chunks: duplex.ReceiveChannel[bytes]) -> bytes:
    """Return a stream of bytes in one piece."""
    return b"".join([chunk async for chunk in chunks])


@odd.rpc
async def first(numbers: duplex.ReceiveChannel[int]) -> int:
    """Return the first item of a stream without waiting for its end."""
    return await numbers.receive()


@odd.rpc
async def forever() -> AsyncIterator[int]:
    """Count until cancelled."""
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        cancelled.set()


@odd.rpc
async def was_cancelled() -> bool:
    """Wait until a call of forever was cancelled."""
    await cancelled.wait()
    return True


@odd.rpc(resumable=True)
async def lines(*, cursor: int = 0) -> AsyncIterator[duplex.Tracked[int, str]]:
    """Stream three lines, those behind a cursor."""
    for number in range(cursor + 1, 4):
        yield duplex.Tracked(number, "x" * number)


@odd.rpc
async def sleepy() -> None:
    """Never return."""
    await trio.sleep_forever()


@odd.rpc
async def nap(seconds: float) -> str:
    """Return after so many seconds."""
    await trio.sleep(seconds)
    return "rested"


@odd.rpc(inline=True)
def large(size: int) -> str:
    """Return a long string."""
    return "x" * size


@odd.rpc(inline=True)
def crash() -> None:
    """Fail unexpectedly."""
    raise RuntimeError("the answer was not 42")


@odd.rpc
async def subscribe(visit: duplex.Callback[[int], None] | None = None) -> None:
    """Take a callback, or not."""


@odd.rpc
async def hand_out() -> duplex.Callback[[], int]:
    """Return a callback."""

    async def answer() -> int:
        return 42

    return answer
