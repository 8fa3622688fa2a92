"""What a Python function says of itself, read once: its kind, its parameters, its types.

=====================================================  ==================
the function                                           its kind
=====================================================  ==================
``async def`` or ``def`` that returns                  unary
``async def`` or ``def`` that yields                   server streaming
has one parameter ``ReceiveChannel[T]``                client streaming
has one parameter ``ReceiveChannel[T]``, and yields    bidirectional
has a parameter ``Channel[S, R]``                      bidirectional
=====================================================  ==================

Only parameters at the top level of the signature count, not ``ReceiveChannel[T] | None``. With *several*
``ReceiveChannel`` parameters all of them are channels passed as values, because none is more the call's own
than the others. ``SendChannel`` and ``Callback`` parameters are always values.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import trio

from duplex._config import Overflow
from duplex._errors import ConfigurationError
from duplex.codec._types import inspect_type
from duplex.engine import channels
from duplex.engine._handler import Flavor, Kind
from duplex.engine.serving import MiddlewareLayers
from duplex.service._annotations import (
    UnresolvedNameError,
    bare,
    hints_of,
    names_for,
    resolve,
    role_of,
    signature_of,
    underlying,
)
from duplex.service._arguments import Binder, Parameter
from duplex.service._method import DEFAULTS, MethodSpec, RpcOptions
from duplex.service._resumable import check_resumable
from duplex.service._travel import check_input, check_output

#: The channel types that the engine can make; trio's memory channels, for example, are not among them.
_STREAM_TYPES: Final = (channels.ReceiveChannel, channels.Channel, trio.abc.ReceiveChannel, trio.abc.Channel)

_ASYNC_ITERATORS: Final = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
)
_ITERATORS: Final = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)
_AWAITABLES: Final = (collections.abc.Awaitable, collections.abc.Coroutine)
#: What a function that does not yield cannot return. An ``Iterable`` may well be a list.
_NO_RESULT: Final = (*_ASYNC_ITERATORS, *_ITERATORS[:2], *_AWAITABLES)

_YIELDS: Final = (Flavor.ASYNC_GENERATOR, Flavor.SYNC_GENERATOR)
_IS: Final = {
    Flavor.ASYNC: "`async def`",
    Flavor.ASYNC_GENERATOR: "async generator",
    Flavor.SYNC_GENERATOR: "generator",
}


def inspect_function(function: Callable[..., Any], method: str, options: RpcOptions = DEFAULTS) -> MethodSpec:
    """Make the spec of a function that is to be served.

    Args:
        function: anything callable whose signature Python can tell, apart from classes.
        method: ``service.method``, as errors name it.
        options: what was said where the function was decorated.

    Raises:
        ConfigurationError: it cannot be served; the message says what to change.
        UnresolvedNameError: an annotation names something that does not exist (yet).
    """
    function = callable_of(function, method)
    flavor = flavor_of(function, method, inline=options.inline)
    signature = signature_of(function, method)
    hints = hints_of(function, method, options.scope) if options.hints is None else options.hints
    parameters = _parameters(signature, method, hints)
    stream = _stream_of(parameters, method, flavor)
    returned = hints.get("return", Any)
    output_type = _output_type(returned, method, flavor)
    if stream.wants_channel:
        if flavor is not Flavor.ASYNC or returned not in (Any, types.NoneType):
            raise ConfigurationError(
                f"{method}: a handler with a Channel answers through {stream.name}.send(), so it neither "
                f"yields nor returns anything"
            )
        output_type = stream.output_type
    kind = _kind_of(flavor, stream)
    if options.resumable:
        check_resumable(method, kind, parameters, output_type)
    _check_overflow(method, options.overflow, kind)
    check_output(f"{method}: the result", output_type)
    compiles = True
    for p in parameters:
        subject, annotation = f"{method}: the parameter {p.name!r}", p.annotation
        compiles &= check_input(subject, stream.input_type if p.name == stream.name else annotation)
    return MethodSpec(
        method=method,
        function=function,
        kind=kind,
        flavor=flavor,
        inline=options.inline,
        stream_parameter=stream.name,
        wants_channel=stream.wants_channel,
        input_type=stream.input_type,
        output_type=output_type,
        parameters=tuple(parameters),
        doc=_doc_of(function),
        idempotent=options.idempotent,
        deprecated=options.deprecated,
        resumable=options.resumable,
        overflow=options.overflow,
        requires=options.requires,
        layers=MiddlewareLayers(options.middleware) if options.middleware else None,
        _binder=Binder(
            method,
            parameters,
            stream_parameter=stream.name,
            stream_is_value=not stream.wants_channel,
            compiles=compiles,
        ),
    )


def _check_overflow(method: str, overflow: object, kind: Kind) -> None:
    if overflow is None:
        return
    if overflow not in typing.get_args(Overflow):
        raise ConfigurationError(
            f"{method}: overflow must be one of {', '.join(map(repr, typing.get_args(Overflow)))} or None, "
            f"not {overflow!r}"
        )
    if kind is Kind.UNARY:
        raise ConfigurationError(
            f"{method}: overflow is for streams, and this method neither yields nor takes a stream"
        )


def callback_spec(function: Callable[..., Any], method: str) -> MethodSpec:
    """Make the spec of a function that is passed to another peer as a callback.

    It is lenient where :func:`inspect_function` is strict, because the function may be anybody's: what
    cannot be known of it is taken as it comes. A plain function runs on the event loop, where the peer that passes
    ``results.append`` expects it.

    Raises:
        ConfigurationError: the function yields, which a callback cannot, or is a partial that cannot be called.
    """
    flavor = Flavor.ASYNC if isinstance(function, channels.Callback) else _flavor(function)
    if flavor in _YIELDS:
        raise ConfigurationError(f"{method}: a callback returns one value, so {_name(function)} cannot yield")
    parameters = _callback_parameters(function)
    return MethodSpec(
        method=method,
        function=function,
        kind=Kind.UNARY,
        flavor=flavor,
        inline=flavor is Flavor.SYNC,
        stream_parameter=None,
        wants_channel=False,
        input_type=Any,
        output_type=Any,
        parameters=tuple(parameters),
        _binder=Binder(method, parameters),
    )


def _callback_parameters(function: Callable[..., Any]) -> list[Parameter]:
    if not hasattr(underlying(function), "__code__"):
        # Written in C: what Python says of its signature is seldom more than a guess, and slow to come by.
        return [
            Parameter("args", inspect.Parameter.VAR_POSITIONAL),
            Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
    signature = signature_of(function, "callback")
    annotated = any(p.annotation is not p.empty for p in signature.parameters.values())
    names = names_for(function) if annotated else {}
    return [
        Parameter(p.name, p.kind, _resolve_or_any(p.annotation, names), p.default)
        for p in signature.parameters.values()
    ]


def _resolve_or_any(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        resolved = resolve("callback", annotation, names)
        inspect_type(resolved)
    except (ConfigurationError, UnresolvedNameError):
        return Any
    return resolved


# -- what it is ----------------------------------------------------------------------------------------


def callable_of(function: Any, method: str) -> Callable[..., Any]:
    """Return what is to be called, or raise why nothing sensible is."""
    if isinstance(function, type):
        raise ConfigurationError(
            f"{method}: a class is not a method; decorate its methods with @duplex.rpc and expose an instance of it"
        )
    if isinstance(function, (staticmethod, classmethod)):
        raise ConfigurationError(
            f"{method}: a {type(function).__name__} gets its function from its class; decorate it with "
            f"@duplex.rpc and expose an instance of the class"
        )
    if not callable(function):
        raise ConfigurationError(f"{method}: {type(function).__name__!r} is not callable")
    if inspect.isroutine(function) or isinstance(function, functools.partial):
        return function
    call: Callable[..., Any] = function.__call__  # an object that acts as a function
    return call


def _flavor(function: Callable[..., Any]) -> Flavor:
    if inspect.isasyncgenfunction(function):
        return Flavor.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Flavor.ASYNC
    if inspect.isgeneratorfunction(function):
        return Flavor.SYNC_GENERATOR
    return Flavor.SYNC


def flavor_of(function: Callable[..., Any], method: str, *, inline: bool) -> Flavor:
    """Return what kind of function it is, or raise if that cannot be known or does not go with ``inline``."""
    flavor = _flavor(function)
    within = _flavor(underlying(function))
    if flavor is Flavor.SYNC and within is not Flavor.SYNC:
        raise ConfigurationError(
            f"{method}: a plain function is wrapped around its {_IS[within]}, which hides what it is; "
            f"make the wrapper the same kind of function"
        )
    if inline and flavor in (Flavor.ASYNC, Flavor.ASYNC_GENERATOR):
        raise ConfigurationError(
            f"{method}: inline=True is for a plain `def`; `async def` runs on the event loop anyway"
        )
    return flavor


def _kind_of(flavor: Flavor, stream: _Stream) -> Kind:
    yields = flavor in _YIELDS
    if stream.name is None:
        return Kind.SERVER_STREAMING if yields else Kind.UNARY
    return Kind.BIDIRECTIONAL if yields or stream.wants_channel else Kind.CLIENT_STREAMING


def _doc_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.getdoc(function) or ""


# -- parameters ----------------------------------------------------------------------------------------


def _parameters(signature: inspect.Signature, method: str, hints: Mapping[str, Any]) -> list[Parameter]:
    parameters: list[Parameter] = []
    for p in signature.parameters.values():
        if p.name in ("self", "cls") and p.name not in hints and not parameters:
            raise ConfigurationError(
                f"{method}: its first parameter is {p.name!r}, so it belongs to a class; decorate it with "
                f"@duplex.rpc and expose an instance of the class"
            )
        hint = hints.get(p.name, Any)
        if isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
            hint = Any
        if typing.get_origin(hint) is typing.Unpack:
            raise ConfigurationError(
                f"{method}: the parameter {p.name!r} is unpacked from a type; write its parts as parameters"
            )
        parameters.append(Parameter(p.name, p.kind, hint, p.default))
    return parameters


# -- the call's own channel ----------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What the signature says of the call's own channel."""

    name: str | None = None
    wants_channel: bool = False
    input_type: Any = Any
    output_type: Any = Any


def _stream_of(parameters: Sequence[Parameter], method: str, flavor: Flavor) -> _Stream:
    parameter = _stream_parameter(parameters, method)
    if parameter is None:
        return _Stream()
    _check_stream_parameter(parameter, parameters, f"{method}: the parameter {parameter.name!r}", flavor)
    item_types = typing.get_args(bare(parameter.annotation)) or (Any,)
    wants_channel = role_of(parameter.annotation) == "channel"
    # trio's Channel has one type for both directions.
    return _Stream(parameter.name, wants_channel, input_type=item_types[-1], output_type=item_types[0])


def _stream_parameter(parameters: Sequence[Parameter], method: str) -> Parameter | None:
    """Return the parameter that is the call's own channel."""
    roles = [(p, role_of(p.annotation)) for p in parameters if not p.variadic]
    whole = [p for p, role in roles if role == "channel"]
    receiving = [p for p, role in roles if role == "receive"]
    if len(whole) > 1:
        raise ConfigurationError(
            f"{method}: {whole[0].name!r} and {whole[1].name!r} cannot both be the call's own channel; "
            f"annotate one of them as SendChannel or ReceiveChannel"
        )
    if whole:
        return whole[0]
    return receiving[0] if len(receiving) == 1 else None


def _check_stream_parameter(
    stream: Parameter, parameters: Sequence[Parameter], subject: str, flavor: Flavor
) -> None:
    """Raise if the engine could not fill the stream parameter, or the function not use it."""
    annotation = bare(stream.annotation)
    origin = typing.get_origin(annotation) or annotation
    if origin not in _STREAM_TYPES:
        raise ConfigurationError(
            f"{subject}: {origin.__name__} does not cross the wire; use duplex.ReceiveChannel or duplex.Channel"
        )
    if flavor in (Flavor.SYNC, Flavor.SYNC_GENERATOR):
        raise ConfigurationError(f"{subject} is a stream, which only `async def` can receive from")
    if stream.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise ConfigurationError(
            f"{subject} is a stream, which is passed by name: it cannot be positional-only"
        )
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if variadic and stream.kind is not inspect.Parameter.KEYWORD_ONLY:
        raise ConfigurationError(
            f"{subject} is a stream, which is passed by name: put it behind the *arguments"
        )


# -- the result ----------------------------------------------------------------------------------------


def _output_type(returned: Any, method: str, flavor: Flavor) -> Any:
    """Return the type of the result, or of each item of a generator."""
    annotation = bare(returned)
    origin = typing.get_origin(annotation) or annotation
    if flavor in (Flavor.ASYNC, Flavor.SYNC):
        if origin in _NO_RESULT:
            advice = "`async def` that awaits it" if origin in _AWAITABLES else "generator: `yield` the items"
            raise ConfigurationError(
                f"{method}: it returns {_name(origin)}, which is no value; make it a {advice}"
            )
        return returned
    if returned is Any:
        return Any
    allowed = _ASYNC_ITERATORS if flavor is Flavor.ASYNC_GENERATOR else _ITERATORS
    if origin not in allowed:
        raise ConfigurationError(
            f"{method}: it yields, so its result is to be annotated {_name(allowed[0])}[...], not {_name(origin)}"
        )
    arguments = typing.get_args(annotation)
    return arguments[0] if arguments else Any


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
