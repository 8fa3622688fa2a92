"""Errors that are made in odd ways, for the tests of what callers are told; and methods that raise them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import trio

import duplex


class NoSuchArticle(duplex.NotFound):
    """Forgets ``super().__init__``."""

    def __init__(self, key: str) -> None:
        self.key = key


class Unprintable(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unshowable(Exception):
    """Ends the program of whoever asks for its text."""

    def __str__(self) -> str:
        raise SystemExit("no text")


class Stubborn(ExceptionGroup[Exception]):
    """A group that cannot make another of itself, as one with a constructor of its own."""

    def derive(self, excs: Any) -> Any:
        raise RuntimeError("no other group")


class Failed(BaseException):
    """No Exception."""


@dataclasses.dataclass
class Trap:
    """Raises what it likes when it is encoded."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise LookupError("nothing to see")


def _set(**fields: Any) -> Callable[[], BaseException]:
    def make() -> BaseException:
        error = duplex.NotFound("x")
        for name, value in fields.items():
            setattr(error, name, value)
        return error

    return make


def _deep() -> BaseException:
    error: BaseException = ValueError("deep")
    for _ in range(3000):
        error = BaseExceptionGroup("of one", [error])
    return error


_ELSEWHERE: Final[list[trio.Cancelled]] = []


async def keep_a_cancellation() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            _ELSEWHERE[:] = [error]
            raise


#: How to make each error, and which class the caller is to get.
ERRORS: Final[dict[str, tuple[Callable[[], BaseException], type[duplex.RPCError]]]] = {
    "message is an exception": (lambda: duplex.NotFound(KeyError("k")), duplex.NotFound),
    "message is a number": (lambda: duplex.NotFound(42), duplex.NotFound),
    "message is a path": (lambda: duplex.NotFound(pathlib.Path("/x")), duplex.NotFound),
    "message is a dict": (lambda: duplex.NotFound({"a": 1}), duplex.NotFound),
    "message is bytes": (lambda: duplex.NotFound(b"x"), duplex.NotFound),
    "message is unprintable": (lambda: duplex.NotFound(Unprintable()), duplex.NotFound),
    "message was replaced": (_set(message=Unprintable()), duplex.NotFound),
    "message is deadly": (_set(message=Unshowable()), duplex.Internal),
    "message has a surrogate": (lambda: duplex.NotFound("\ud800"), duplex.NotFound),
    "message is endless": (lambda: duplex.NotFound("x" * 1_000_000), duplex.NotFound),
    "constructor of its own": (lambda: NoSuchArticle("k"), duplex.NotFound),
    "retry_after is a timedelta": (_set(retry_after=dt.timedelta(seconds=5)), duplex.NotFound),
    "retry_after is a str": (_set(retry_after="5 s"), duplex.NotFound),
    "retry_after is nan": (_set(retry_after=float("nan")), duplex.NotFound),
    "retry_after is inf": (_set(retry_after=float("inf")), duplex.NotFound),
    "retry_after is huge": (_set(retry_after=10**400), duplex.NotFound),
    "code is a str": (_set(code="NOT_FOUND"), duplex.NotFound),
    "code is OK": (_set(code=duplex.StatusCode.OK), duplex.NotFound),
    "code is negative": (_set(code=-1), duplex.NotFound),
    "code is beyond": (_set(code=1 << 60), duplex.NotFound),
    "metadata is a list": (_set(metadata=["a"]), duplex.NotFound),
    "metadata is large": (_set(metadata={"key": "x" * 100_000}), duplex.NotFound),
    "metadata has numbers": (_set(metadata={"key": 1}), duplex.NotFound),
    "details cannot travel": (_set(details=object()), duplex.NotFound),
    "details raise": (_set(details=Trap()), duplex.NotFound),
    "details are large": (_set(details="x" * 200_000), duplex.NotFound),
    "details are an attachment": (_set(details=bytes(100_000)), duplex.NotFound),
    "method is set": (_set(method=7), duplex.Internal),
    "unprintable": (Unprintable, duplex.Internal),
    "deadly to print": (Unshowable, duplex.Internal),
    "no Exception": (Failed, duplex.Internal),
    "exit": (SystemExit, duplex.Internal),
    "generator exit": (GeneratorExit, duplex.Internal),
    "stop iteration": (StopIteration, duplex.Internal),
    "stop async iteration": (StopAsyncIteration, duplex.Internal),
    "cancellation of another scope": (lambda: _ELSEWHERE[0], duplex.Internal),
    "stubborn group": (lambda: Stubborn("g", [ValueError(), duplex.NotFound("x")]), duplex.Internal),
    "stubborn group of one": (lambda: Stubborn("g", [duplex.NotFound("x")]), duplex.NotFound),
    "deep group": (_deep, duplex.Internal),
}

odd = duplex.Service("odd")


def fail(kind: str) -> None:
    raise ERRORS[kind][0]()


@odd.rpc
async def by_coroutine(kind: str) -> int:
    await keep_a_cancellation()
    fail(kind)
    return 1


@odd.rpc(inline=True)
def by_inline(kind: str) -> int:
    fail(kind)
    return 1


@odd.rpc
def by_thread(kind: str) -> int:
    fail(kind)
    return 1


@odd.rpc
async def by_stream(kind: str) -> AsyncIterator[int]:
    yield 1
    fail(kind)


@odd.rpc
def by_generator(kind: str) -> Iterator[int]:
    yield 1
    fail(kind)


@odd.rpc(inline=True)
def by_inline_generator(kind: str) -> Iterator[int]:
    yield 1
    fail(kind)


@odd.rpc
async def apply(function: duplex.Callback[[str], int], kind: str) -> str:
    """Call the caller's function, and say of which class its error is."""
    try:
        return str(await function(kind))
    except duplex.RPCError as error:
        return type(error).__name__


@odd.rpc
async def good() -> int:
    return 1
