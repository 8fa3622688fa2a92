"""What type checkers see of a function under ``@duplex.rpc``; when the program runs, it stays the same function.

A method of a service has two faces, and a class shows both. An object of the class has the method itself, so
``self.count(3)`` in another method, or in a test, is typed as it was written. The class has what a caller on
the other side of a link uses: ``Counter.count`` is a :class:`duplex.Streaming`. :meth:`duplex.Peer.service`
therefore gives, to a type checker, the class that it was given, so that ``remote.count.open(3)`` is accepted and
``async for number in remote.count(3)``, which would fail, is not.

The parameter that streams is left out of what a caller passes where it is the first or the second one; a stream
further behind is typed by a ``Protocol`` with :class:`duplex.Streaming`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Concatenate, Never, ParamSpec, Protocol, TypeVar, cast, overload

from duplex._config import Overflow
from duplex.engine.calling import Streaming, Unary
from duplex.engine.channels import Channel, ReceiveChannel
from duplex.engine.serving import ServingMiddleware

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])
Item = TypeVar("Item")
P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Remote_co = TypeVar("Remote_co", covariant=True)


class Decorated(Protocol[P, R_co, Remote_co]):
    """A decorated function: as it was when called, or when it is an object's; of a class, the remote method."""

    __name__: str
    __qualname__: str

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function."""

    @overload
    def __get__(self, instance: None, owner: Any, /) -> Remote_co: ...

    @overload
    def __get__(
        self: Decorated[Concatenate[Any, Q], R, Any], instance: object, owner: Any, /
    ) -> Callable[Q, R]: ...


class Decorator(Protocol):
    """What ``@rpc`` and ``@rpc(...)`` do to a function.

    The overloads overlap, because a coroutine and an asynchronous iterator are objects like any other; the
    first one that fits is meant.
    """

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, ReceiveChannel[Item], P], AsyncIterator[R]], /
    ) -> Decorated[Concatenate[Any, ReceiveChannel[Item], P], AsyncIterator[R], Streaming[P, Item, R]]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, A, ReceiveChannel[Item], P], AsyncIterator[R]], /
    ) -> Decorated[
        Concatenate[Any, A, ReceiveChannel[Item], P], AsyncIterator[R], Streaming[Concatenate[A, P], Item, R]
    ]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, P], AsyncIterator[R]], /
    ) -> Decorated[Concatenate[Any, P], AsyncIterator[R], Streaming[P, Never, R]]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, ReceiveChannel[Item], P], Coroutine[Any, Any, R]], /
    ) -> Decorated[
        Concatenate[Any, ReceiveChannel[Item], P], Coroutine[Any, Any, R], Streaming[P, Item, R]
    ]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, A, ReceiveChannel[Item], P], Coroutine[Any, Any, R]], /
    ) -> Decorated[
        Concatenate[Any, A, ReceiveChannel[Item], P],
        Coroutine[Any, Any, R],
        Streaming[Concatenate[A, P], Item, R],
    ]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, Channel[R, Item], P], Coroutine[Any, Any, None]], /
    ) -> Decorated[
        Concatenate[Any, Channel[R, Item], P], Coroutine[Any, Any, None], Streaming[P, Item, R]
    ]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Decorated[Concatenate[Any, P], Coroutine[Any, Any, R], Unary[P, R]]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, P], Iterator[R]], /
    ) -> Decorated[Concatenate[Any, P], Iterator[R], Streaming[P, Never, R]]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], R], /
    ) -> Decorated[Concatenate[Any, P], R, Unary[P, R]]: ...

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        idempotent: bool = False,
        deprecated: str | None = None,
        resumable: bool = False,
        overflow: Overflow | None = None,
        middleware: Iterable[ServingMiddleware] = (),
        requires: str | Iterable[str] = (),
    ) -> Decorator: ...


def shown_as_decorator(function: Callable[..., Any]) -> Decorator:
    """Return the function itself; only type checkers see something else."""
    return cast("Decorator", function)
