"""Middleware: what runs around the handlers of a peer, a service or a method.

Each is a function ``async def middleware(call, next)``. The first is the outermost. ``await next(call)`` runs those
further in and at last the handler, and gives its result, or raises its error. All of it happens in the handler's task.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, final

from duplex._errors import ConfigurationError
from duplex._metadata import Metadata
from duplex.engine.channels import Channel, ChannelStatistics, ReceiveChannel
from duplex.engine.serving._context import CallContext
from duplex.engine.serving._end import Arguments, CallEnd
from duplex.engine.serving._invocation import Invocation

#: ``await receive()`` gives the next item of the caller's stream, and raises ``trio.EndOfChannel`` at its end.
Receive: TypeAlias = Callable[[], Awaitable[Any]]
#: ``await send(item)`` sends an item to the caller.
Send: TypeAlias = Callable[[Any], Awaitable[None]]


class ServedCall(CallContext):
    """A call that is served, as its middleware sees it: all that :class:`CallContext` has, and what middleware may do.

    There is one for each call: what one middleware does, those further in and the handler see.
    """

    __slots__ = ("_port",)

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(invocation)
        self._port = _LayeredPort(invocation.end, invocation.handler.stream_parameter)

    def _invoke(self) -> Coroutine[Any, Any, Any]:
        """Run the handler alone."""
        return self._call.invoke(self._port)

    @property
    def metadata(self) -> Metadata:
        """The caller's headers, for the middleware further in and for the handler: assign others to change them."""
        return self._call.metadata

    @metadata.setter
    def metadata(self, metadata: Metadata) -> None:
        self._call.metadata = metadata

    async def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return what the handler is called with, by position and by name, but for a stream.

        Waits for it if the arguments hold callbacks or channels, which come later.

        Raises:
            InvalidArgument: they are wrong, and the handler cannot run.
        """
        positional, keyword = await self._port.arguments()
        stream = self._call.handler.stream_parameter
        return positional, {name: value for name, value in keyword.items() if name != stream}

    def wrap_receive(self, wrapper: Callable[[Receive], Awaitable[Any]]) -> None:
        """Have the handler receive the items of the caller's stream through a function.

        Args:
            wrapper: ``async def wrapper(receive)`` is called for each item that the handler is to have, and returns it.
                ``await receive()`` gives the next one that came, and raises ``trio.EndOfChannel`` at the end.

        Call it before ``next``. What was wrapped first is nearest to the caller.
        """
        self._port.wrap_receive(wrapper)

    def wrap_send(self, wrapper: Callable[[Any, Send], Awaitable[None]]) -> None:
        """Have the items that the handler streams to the caller pass through a function.

        Args:
            wrapper: ``async def wrapper(item, send)`` is called with each item. ``await send(item)`` sends it on; it may
                be called with another item, several times, or not at all.

        Call it before ``next``. What was wrapped first is nearest to the caller.
        """
        self._port.wrap_send(wrapper)

    async def send(self, item: Any) -> None:
        """Send an item of the stream of results, as the handler would: for middleware that answers itself.

        Raises:
            TypeError: the method returns one result, so the middleware does.
        """
        if not self._call.handler.kind.streams_output:
            raise TypeError(
                f"{self.method} returns one result: its middleware returns it, rather than send it"
            )
        self._call.has_begun = True
        if (rest := self._port.send_now(item)) is not None:
            await rest


#: ``await next(call)`` runs what is further in, with the call that the middleware was given.
Next: TypeAlias = Callable[[Any], Awaitable[Any]]
#: What runs around handlers: returns the result, that of ``await next(call)`` or its own, or raises.
ServingMiddleware: TypeAlias = Callable[[ServedCall, Next], Coroutine[Any, Any, Any]]


@final
class MiddlewareLayers:
    """Middleware in order, the outermost first: implements :class:`duplex.engine._handler.Layers`."""

    __slots__ = ("_functions",)

    def __init__(self, functions: Sequence[ServingMiddleware]) -> None:
        self._functions = tuple(functions)

    async def run(self, invocation: Invocation, /) -> Any:
        """See :meth:`duplex.engine._handler.Layers.run`."""
        call = invocation.context = ServedCall(invocation)
        result = await self._functions[0](call, _Next(call, self._functions, 1))
        return checked_result(result, invocation.method)

    def inside(self, outer: Sequence[ServingMiddleware]) -> MiddlewareLayers:
        """Return these with others around them."""
        return MiddlewareLayers((*outer, *self._functions)) if outer else self


@final
class _Next:
    """What a middleware is given to run what is further in."""

    __slots__ = ("_call", "_depth", "_functions")

    def __init__(self, call: ServedCall, functions: tuple[ServingMiddleware, ...], depth: int) -> None:
        self._call = call
        self._functions = functions
        self._depth = depth

    def __call__(self, call: ServedCall) -> Awaitable[Any]:
        if call is not self._call:
            raise TypeError(f"next() takes the call that the middleware was given, not {call!r}")
        functions = self._functions
        depth = self._depth
        if depth == len(functions):
            return call._invoke()
        return functions[depth](call, _Next(call, functions, depth + 1))


# -- what is between the handler and its streams -------------------------------------------------------


@final
class _LayeredPort:
    """The :class:`~duplex.engine.serving._end.Port` of a handler with middleware: the call's end, and what was wrapped
    around its streams.

    Args:
        end: the call's.
        stream_parameter: the handler's parameter for the caller's stream, if it has one.
    """

    __slots__ = ("_arguments", "_end", "_receivers", "_senders", "_stream_parameter")

    def __init__(self, end: CallEnd, stream_parameter: str | None) -> None:
        self._end = end
        self._stream_parameter = stream_parameter
        #: As they were bound, when they were first asked for; kept until the call has ended, because the handler may be run again.
        self._arguments: Arguments | None = None
        #: What items pass, that nearest to the caller first.
        self._receivers: tuple[Callable[[Receive], Awaitable[Any]], ...] = ()
        self._senders: tuple[Callable[[Any, Send], Awaitable[None]], ...] = ()

    def wrap_receive(self, wrapper: Callable[[Receive], Awaitable[Any]]) -> None:
        """Have what the handler receives pass through a function."""
        self._receivers += (wrapper,)

    def wrap_send(self, wrapper: Callable[[Any, Send], Awaitable[None]]) -> None:
        """Have what the handler sends pass through a function."""
        self._senders += (wrapper,)

    async def arguments(self) -> Arguments:
        """Return the arguments, and wait for them if need be."""
        if self._arguments is None:
            self._arguments = self._end.bind_now()
        if self._arguments is None:
            self._arguments = await self._end.bind_later()
        return self._arguments

    def bind_now(self) -> Arguments | None:
        """See :meth:`Port.bind_now`."""
        if self._arguments is None:
            self._arguments = self._end.bind_now()
        return None if self._arguments is None else self._with_wrapped_stream(self._arguments)

    async def bind_later(self) -> Arguments:
        """See :meth:`Port.bind_later`."""
        return self._with_wrapped_stream(await self.arguments())

    def _with_wrapped_stream(self, arguments: Arguments) -> Arguments:
        name = self._stream_parameter
        if name is None:
            return arguments
        positional, keyword = arguments
        stream = keyword[name]
        wrapped = (_WrappedBoth if isinstance(stream, Channel) else _WrappedReceive)(stream, self)
        return positional, {**keyword, name: wrapped}

    def send_now(self, item: Any) -> Awaitable[None] | None:
        """See :meth:`Port.send_now`."""
        return self.send_through(self._send, item) if self._senders else self._end.send_now(item)

    async def _send(self, item: Any) -> None:
        if (rest := self._end.send_now(item)) is not None:
            await rest

    def send_through(self, send: Send, item: Any) -> Awaitable[None]:
        """Send an item through what was wrapped around the sending."""
        for wrapper in self._senders:
            send = _bound_send(wrapper, send)
        return send(item)

    def receive_through(self, receive: Receive) -> Awaitable[Any]:
        """Receive an item through what was wrapped around the receiving."""
        for wrapper in self._receivers:
            receive = _bound_receive(wrapper, receive)
        return receive()


def _bound_send(wrapper: Callable[[Any, Send], Awaitable[None]], send: Send) -> Send:
    return lambda item: wrapper(item, send)


def _bound_receive(wrapper: Callable[[Receive], Awaitable[Any]], receive: Receive) -> Receive:
    return lambda: wrapper(receive)


@final
class _WrappedReceive(ReceiveChannel[Any]):
    """The caller's stream, as a handler with middleware receives it."""

    __slots__ = ("_port", "_stream")

    def __init__(self, stream: ReceiveChannel[Any], port: _LayeredPort) -> None:
        self._stream = stream
        self._port = port

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        return await self._port.receive_through(self._stream.receive)

    async def aclose(self) -> None:
        """See :class:`ReceiveChannel`."""
        await self._stream.aclose()

    def statistics(self) -> ChannelStatistics:
        """See :class:`ReceiveChannel`."""
        return self._stream.statistics()


@final
class _WrappedBoth(Channel[Any, Any]):
    """Both streams of a call, as a handler with middleware has them."""

    __slots__ = ("_channel", "_port")

    def __init__(self, channel: Channel[Any, Any], port: _LayeredPort) -> None:
        self._channel = channel
        self._port = port

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        return await self._port.receive_through(self._channel.receive)

    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        await self._port.send_through(self._channel.send, value)

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await self._channel.send_eof()

    async def aclose(self) -> None:
        """See :class:`SendChannel`."""
        await self._channel.aclose()

    def statistics(self) -> ChannelStatistics:
        """See :class:`SendChannel`."""
        return self._channel.statistics()


# -- what users give -----------------------------------------------------------------------------------


def checked_result(result: Any, method: str) -> Any:
    """Return what the middleware of a call has returned.

    Raises:
        TypeError: it is a coroutine, and nothing has run: an ``await`` is missing.
    """
    if isinstance(result, types.CoroutineType):
        result.close()
        raise TypeError(
            f"{method}: middleware has returned the coroutine {result.__qualname__}, without waiting for it: a call goes on by "
            f"`return await next(call)`"
        )
    return result


def checked_middleware(functions: object, where: str) -> tuple[ServingMiddleware, ...]:
    """Return middleware as it was given, in order.

    Args:
        functions: what was given.
        where: for the error.

    Raises:
        ConfigurationError: it is no list of ``async def`` functions of two arguments.
    """
    if callable(functions) or isinstance(functions, str) or not isinstance(functions, Iterable):
        raise ConfigurationError(f"{where}: middleware must be a list of functions, not {functions!r}")
    found = tuple(functions)
    for function in found:
        _check(function, where)
    return found


def _check(function: object, where: str) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise ConfigurationError(f"{where}: middleware must be a function, not {name}")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object that acts as a function
    )
    if not is_async:
        raise ConfigurationError(f"{where}: the middleware {name} must be an `async def`")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise ConfigurationError(
            f"{where}: the middleware {name} must take two arguments: `async def {name}(call, next)`"
        ) from None
    except ValueError:
        pass  # written in C, so its signature is not known
