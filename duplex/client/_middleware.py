"""Middleware of calls out: what runs around the calls that a peer makes.

Each is a function ``async def middleware(call, next)``. The first is the outermost. ``await next(call)`` runs those further in
and at last makes the call, and gives its result, or raises its error. All of it happens in the caller's own task.

An opened call is longer than a function: between its beginning and its end the caller's block runs. So a middleware's coroutine is
run by hand in two parts, as a context manager made of a generator is: up to the opened call when the block is entered, and on
from there when it is left. Scopes that it has open then are around the block.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, final

import msgspec
import trio

from duplex._errors import ConfigurationError, RPCError
from duplex._metadata import Metadata
from duplex.client._options import checked_metadata, checked_timeout
from duplex.engine.calling import Caller, Opening, OutgoingCall, Request, ending_of
from duplex.engine.serving import checked_result

#: ``await receive()`` gives the next result, and raises ``trio.EndOfChannel`` at the end.
Receive: TypeAlias = Callable[[], Awaitable[Any]]
#: ``await send(item)`` sends an item.
Send: TypeAlias = Callable[[Any], Awaitable[None]]

#: What a coroutine yields that has opened a call, when it is the block's turn.
_OPENED: Final = object()


class MadeCall:
    """A call that this peer makes, as its middleware sees it.

    There is one for each call, and it is made from it: what one middleware changes before ``next``, those further in and the
    other side see.
    """

    __slots__ = ("_arguments", "_caller", "_kind", "_opened", "_receivers", "_request", "_senders", "_state")

    def __init__(
        self,
        caller: Caller,
        request: Request,
        kind: Literal["unary", "open", "notify"],
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> None:
        self._caller = caller
        self._request = request
        self._kind = kind
        self._arguments = positional, keyword
        self._state: dict[Any, Any] | None = None
        self._opened: Any = None
        self._receivers: tuple[Callable[[Receive], Awaitable[Any]], ...] = ()
        self._senders: tuple[Callable[[Any, Send], Awaitable[None]], ...] = ()

    def __repr__(self) -> str:
        return f"<call to {self.method}>"

    @property
    def method(self) -> str:
        """``service.method``; ``callback`` and a number for a function of the other side's."""
        return self._request.method

    @property
    def kind(self) -> Literal["unary", "open", "notify"]:
        """How it is called: awaited, opened, or without an answer."""
        return self._kind

    @property
    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """By position and by name: assign others to change them."""
        return self._arguments

    @arguments.setter
    def arguments(self, arguments: tuple[Sequence[Any], Mapping[str, Any]]) -> None:
        match arguments:
            case (Sequence(), Mapping()) if not isinstance(arguments[0], str):
                self._arguments = arguments
            case _:
                raise ConfigurationError(
                    f"{self.method}: the arguments of a call are those by position and those by name, as in "
                    f"((1, 2), {{'c': 3}}), not {arguments!r}"
                )

    @property
    def metadata(self) -> Metadata:
        """Its headers, to be read: assign others to change them, as in ``call.metadata = {**call.metadata, "user": "ann"}``."""
        return types.MappingProxyType(self._request.metadata or {})

    @metadata.setter
    def metadata(self, metadata: Metadata) -> None:
        own = {key: value for key, value in self.metadata.items() if metadata.get(key) == value}
        checked_metadata({key: value for key, value in metadata.items() if key not in own})
        self._request = msgspec.structs.replace(self._request, metadata=dict(metadata) or None)

    @property
    def timeout(self) -> float | None:
        """Seconds that it has, beside the scopes around it; ``None`` for no limit of its own. Assign before ``next``."""
        return self._request.timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._request = msgspec.structs.replace(self._request, timeout=checked_timeout(timeout))

    @property
    def state(self) -> dict[Any, Any]:
        """A dict for the middleware of this call."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def peer(self) -> str | None:
        """The name of the peer that an opened call went to, after ``next``; else ``None``. Errors have their own."""
        return self._opened.peer if isinstance(self._opened, OutgoingCall) else None

    @property
    def trailers(self) -> Metadata:
        """What came with the status of an opened call, after ``next``; else nothing."""
        return self._opened.trailers if isinstance(self._opened, OutgoingCall) else {}

    @property
    def error(self) -> RPCError | None:
        """What an opened call has ended with, after ``next``, whether or not the caller's block let it out. ``None`` if it ended
        well, or was left before its end, and of a stream that goes on after losses, which is several calls."""
        if not isinstance(self._opened, OutgoingCall):
            return None
        has_ended, error = ending_of(self._opened)
        return error if has_ended else None

    def wrap_receive(self, wrapper: Callable[[Receive], Awaitable[Any]]) -> None:
        """Have the results that an opened call streams pass through a function.

        Args:
            wrapper: ``async def wrapper(receive)`` is called for each result that the caller is to have, and returns it.
                ``await receive()`` gives the next one that came, and raises ``trio.EndOfChannel`` at the end.

        Call it before ``next``. What was wrapped first is nearest to the caller.
        """
        self._receivers = (wrapper, *self._receivers)

    def wrap_send(self, wrapper: Callable[[Any, Send], Awaitable[None]]) -> None:
        """Have the items that the caller sends on an opened call pass through a function.

        Args:
            wrapper: ``async def wrapper(item, send)`` is called with each item. ``await send(item)`` sends it on; it may
                be called with another item, several times, or not at all.

        Call it before ``next``. What was wrapped first is nearest to the caller.
        """
        self._senders = (wrapper, *self._senders)

    def _make(self) -> Coroutine[Any, Any, Any]:
        """Make the call."""
        positional, keyword = self._arguments
        if self._kind == "unary":
            return self._caller.unary(self._request, positional, keyword)
        if self._kind == "notify":
            return self._caller.notify(self._request, positional, keyword)
        if self._opened is not None:
            raise RuntimeError(f"{self.method}: a call that the caller has had cannot be opened again")
        return self._open(self._caller.open(self._request, positional, keyword))

    async def _open(self, opening: Opening) -> None:
        """Open the call, let the caller's block run, and end the call."""
        self._opened = await opening.__aenter__()
        error: BaseException | None = await _hand_out()
        traceback = None if error is None else error.__traceback__
        await opening.__aexit__(None if error is None else type(error), error, traceback)
        if error is not None:
            raise error

    def _handed_out(self) -> Any:
        """Return what the caller's block gets."""
        if self._receivers or self._senders:
            return _Wrapped(self._opened, self._receivers, self._senders)
        return self._opened


#: ``await next(call)`` runs what is further in, with the call that the middleware was given.
NextCall: TypeAlias = Callable[[MadeCall], Awaitable[Any]]
#: What runs around calls: returns the result, that of ``await next(call)`` or its own, or raises.
CallingMiddleware: TypeAlias = Callable[[MadeCall, NextCall], Coroutine[Any, Any, Any]]


@final
class _Next:
    """What a middleware is given to run what is further in."""

    __slots__ = ("_call", "_depth", "_functions")

    def __init__(self, call: MadeCall, functions: tuple[CallingMiddleware, ...], depth: int) -> None:
        self._call = call
        self._functions = functions
        self._depth = depth

    def __call__(self, call: MadeCall) -> Awaitable[Any]:
        if call is not self._call:
            raise TypeError(f"next() takes the call that the middleware was given, not {call!r}")
        functions = self._functions
        depth = self._depth
        if depth == len(functions):
            return call._make()
        return functions[depth](call, _Next(call, functions, depth + 1))


@final
class Layered:
    """Makes calls with middleware around them; see :class:`Caller`.

    Args:
        caller: makes them.
        functions: the middleware, the outermost first; one at least.
    """

    __slots__ = ("_caller", "_functions")

    def __init__(self, caller: Caller, functions: tuple[CallingMiddleware, ...]) -> None:
        self._caller = caller
        self._functions = functions

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        result = await self._run(MadeCall(self._caller, request, "unary", positional, keyword))
        return checked_result(result, request.method)

    async def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> None:
        """See :meth:`Caller.notify`."""
        result = await self._run(MadeCall(self._caller, request, "notify", positional, keyword))
        checked_result(result, request.method)

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> LayeredOpening:
        """See :meth:`Caller.open`."""
        call = MadeCall(self._caller, request, "open", positional, keyword)
        return LayeredOpening(call, self._run)

    def _run(self, call: MadeCall) -> Coroutine[Any, Any, Any]:
        return self._functions[0](call, _Next(call, self._functions, 1))


@final
class LayeredOpening:
    """Opens a call with middleware around it.

    Args:
        call: what is opened.
        run: runs its middleware.
    """

    __slots__ = ("_call", "_middleware", "_run")

    def __init__(self, call: MadeCall, run: Callable[[MadeCall], Coroutine[Any, Any, Any]]) -> None:
        self._call = call
        self._run = run
        self._middleware: Coroutine[Any, Any, Any]

    async def __aenter__(self) -> OutgoingCall[Any, Any]:
        self._middleware = self._run(self._call)
        if await _advance(self._middleware, None):
            raise TypeError(
                f"{self._call.method}: the middleware of an opened call awaits next(call), or raises an error; this one has "
                f"returned without, so there is nothing to open"
            )
        opened: OutgoingCall[Any, Any] = self._call._handed_out()
        return opened

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            await _advance(self._middleware, exc)
        except BaseException as error:
            if error is exc:
                return False
            raise
        return False  # what the block raised is not the middleware's to hide


@types.coroutine
def _hand_out() -> Generator[Any, Any, Any]:
    """Let the caller's block run; return what it has raised, if anything."""
    return (yield _OPENED)


@types.coroutine
def _advance(coroutine: Coroutine[Any, Any, Any], value: Any) -> Generator[Any, Any, bool]:
    """Run a coroutine until it opens a call, or to its end; tell whether it has ended. What it asks of trio, trio is asked.

    Args:
        coroutine: what is run; it has not begun, or has opened a call.
        value: what the opened call's block has raised, if anything.
    """
    act: Callable[[Any], Any] = coroutine.send
    while True:
        try:
            asked = act(value)
        except StopIteration:
            return True
        if asked is _OPENED:
            return False
        try:
            value = yield asked
        except BaseException as error:
            value = error
            act = coroutine.throw
        else:
            act = coroutine.send


@final
class _Wrapped:
    """An opened call whose streams pass through functions. All else is that of the call."""

    __slots__ = ("_call", "_receivers", "_senders")

    def __init__(
        self,
        call: Any,
        receivers: tuple[Callable[[Receive], Awaitable[Any]], ...],
        senders: tuple[Callable[[Any, Send], Awaitable[None]], ...],
    ) -> None:
        self._call = call
        self._receivers = receivers
        self._senders = senders

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __aiter__(self) -> _Wrapped:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def receive(self) -> Awaitable[Any]:
        """See :meth:`OutgoingCall.receive`."""
        receive: Receive = self._call.receive
        for wrapper in self._receivers:
            receive = _bound_receive(wrapper, receive)
        return receive()

    def send(self, item: Any) -> Awaitable[None]:
        """See :meth:`OutgoingCall.send`."""
        send: Send = self._call.send
        for wrapper in self._senders:
            send = _bound_send(wrapper, send)
        return send(item)


def _bound_receive(wrapper: Callable[[Receive], Awaitable[Any]], receive: Receive) -> Receive:
    return lambda: wrapper(receive)


def _bound_send(wrapper: Callable[[Any, Send], Awaitable[None]], send: Send) -> Send:
    return lambda item: wrapper(item, send)
