"""A method that can be served, and what its author said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast, final

from duplex._config import Overflow
from duplex._errors import ConfigurationError
from duplex.codec._base import Buffer, Codec, LiveValues
from duplex.engine._handler import Flavor, Kind
from duplex.engine.serving import MiddlewareLayers, ServingMiddleware
from duplex.service._annotations import NO_SCOPE, Scope
from duplex.service._arguments import Binder, Parameter


@final
@dataclass(frozen=True, slots=True, eq=False)
class MethodSpec:
    """A method that can be served; implements :class:`duplex.engine._handler.Handler`. Frozen.

    Attributes:
        method: ``service.method``.
        function: what is called; bound if it is a method of an object.
        kind: how many messages go each way.
        flavor: what kind of Python function it is.
        inline: a plain function that runs on the event loop rather than in a worker thread.
        stream_parameter: the parameter that is the call's own channel, or ``None``.
        wants_channel: whether that parameter is a ``Channel`` rather than a ``ReceiveChannel``.
        input_type: the type of each item that the caller streams in.
        output_type: the type of the result, or of each item that the handler streams out.
        parameters: all parameters, the stream parameter included.
        doc: the cleaned docstring, or ``""``.
        idempotent: whether calling twice is as good as calling once, so that a lost call may be repeated.
        deprecated: what to use instead, or ``None``.
        resumable: the stream of results can go on after a lost link.
        overflow: what happens to items when a window is full; ``None``: senders wait.
        requires: the permissions that callers need.
        layers: the middleware around it; ``None`` without any.
    """

    method: str
    function: Callable[..., Any]
    kind: Kind
    flavor: Flavor
    inline: bool
    stream_parameter: str | None
    wants_channel: bool
    input_type: Any
    output_type: Any
    parameters: tuple[Parameter, ...]
    doc: str = ""
    idempotent: bool = False
    deprecated: str | None = None
    resumable: bool = False
    overflow: Overflow | None = None
    requires: frozenset[str] = frozenset()
    layers: MiddlewareLayers | None = None
    _binder: Binder = field(kw_only=True, repr=False)

    @property
    def name(self) -> str:
        """The name within the service."""
        return self.method.rpartition(".")[2]

    def behind(self, middleware: Sequence[ServingMiddleware]) -> MethodSpec:
        """Return the same with more middleware around it, the outermost first."""
        if not middleware:
            return self
        layers = MiddlewareLayers(middleware) if self.layers is None else self.layers.inside(middleware)
        return replace(self, layers=layers)

    def arguments(
        self, codec: Codec, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Decode, validate and bind a call's arguments: ``function(*args, **kwargs)`` then fits.

        The stream parameter is missing from them unless the caller passed a channel for it.

        Raises:
            InvalidArgument: the message names the method, the bad argument and the path within it.
        """
        return self._binder.bind(codec, payload, attachments, live)


@final
@dataclass(frozen=True, slots=True)
class RpcOptions:
    """What is said where a function is decorated; its attribute ``__duplex_rpc__``.

    Attributes:
        name: the name of the method; ``None`` for the function's own.
        inline: a plain ``def`` runs on the event loop rather than in a worker thread. For functions that
            neither block nor compute for long.
        idempotent: calling twice is as good as calling once.
        deprecated: what to use instead.
        resumable: the stream of results can go on after a lost link.
        overflow: what happens to items when a window is full; ``None``: senders wait.
        middleware: what runs around it, the outermost first.
        requires: the permissions that callers need.
        hints: the annotations, as far as they could all be resolved there; else ``None``.
        scope: the local names there, for as long as ``hints`` is missing.
    """

    name: str | None = None
    inline: bool = False
    idempotent: bool = False
    deprecated: str | None = None
    resumable: bool = False
    overflow: Overflow | None = None
    middleware: tuple[ServingMiddleware, ...] = ()
    requires: frozenset[str] = frozenset()
    hints: Mapping[str, Any] | None = None
    scope: Scope = NO_SCOPE


#: What holds where nothing is said.
DEFAULTS: Final = RpcOptions()


def checked_requires(names: object, where: str) -> frozenset[str]:
    """Return the permissions that a method requires.

    Args:
        names: what was given: a name or several.
        where: for the error.

    Raises:
        ConfigurationError: it is no name, or one is empty.
    """
    given = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [None]
    if not all(isinstance(name, str) and name for name in given):
        raise ConfigurationError(
            f"{where}: requires must be the name of a permission, or several, not {names!r}"
        )
    return frozenset(cast("list[str]", given))
