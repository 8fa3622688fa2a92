"""What the engine needs to know of a method in order to run it. ``duplex.service`` makes these."""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from duplex._config import Overflow
from duplex.codec._base import Buffer, Codec, LiveValues


@enum.unique
class Kind(enum.Enum):
    """How many messages go each way; gRPC's four cardinalities."""

    UNARY = "unary"
    SERVER_STREAMING = "server_streaming"
    CLIENT_STREAMING = "client_streaming"
    BIDIRECTIONAL = "bidirectional"

    def __init__(self, value: str) -> None:
        # Plain attributes: they are asked for on every call.
        #: Whether the caller sends a stream.
        self.streams_input = value in ("client_streaming", "bidirectional")
        #: Whether the handler sends a stream.
        self.streams_output = value in ("server_streaming", "bidirectional")


@enum.unique
class Flavor(enum.Enum):
    """What kind of Python function the handler is, which says how to run it."""

    #: ``async def`` that returns
    ASYNC = "async"
    #: ``async def`` that yields
    ASYNC_GENERATOR = "async generator"
    #: ``def`` that returns
    SYNC = "sync"
    #: ``def`` that yields
    SYNC_GENERATOR = "generator"


class Layers(Protocol):
    """Middleware, in order."""

    def run(self, invocation: Any, /) -> Coroutine[Any, Any, Any]:
        """Run a handler with the middleware around it, and return what comes of that.

        Args:
            invocation: the run, an :class:`duplex.engine.serving.Invocation`.
        """


class Handler(Protocol):
    """One method that can be called: everything is computed once, at registration."""

    @property
    def method(self) -> str:
        """``service.method``, or a name for logs if it is a callback."""

    @property
    def function(self) -> Callable[..., Any]:
        """What to call."""

    @property
    def kind(self) -> Kind:
        """How many messages go each way."""

    @property
    def flavor(self) -> Flavor:
        """What kind of function it is."""

    @property
    def inline(self) -> bool:
        """A plain function that is to run on the event loop rather than in a worker thread."""

    @property
    def resumable(self) -> bool:
        """Whether the stream that it sends has cursors, and so can go on elsewhere: nobody waits for its end."""

    @property
    def stream_parameter(self) -> str | None:
        """The parameter that is bound to the call's own channel (``ReceiveChannel[T]`` or ``Channel[S, R]``
        at the top level of the signature), unless the caller passed a channel as a value for it."""

    @property
    def wants_channel(self) -> bool:
        """Whether that parameter wants the whole ``Channel`` rather than a ``ReceiveChannel``."""

    @property
    def input_type(self) -> Any:
        """The type of each item the caller streams in; ``Any`` without annotation."""

    @property
    def overflow(self) -> Overflow | None:
        """What becomes of items of its streams when a window is full; ``None``: senders wait."""

    @property
    def requires(self) -> frozenset[str]:
        """The permissions that its callers need."""

    @property
    def layers(self) -> Layers | None:
        """The middleware around it; ``None`` without any."""

    def behind(self, middleware: Sequence[Any]) -> Handler:
        """Return the same with more middleware around it, the outermost first."""

    def arguments(
        self, codec: Codec, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Decode, validate and bind a call's arguments: ``function(*args, **kwargs)`` must then not fail
        for reasons of its signature (but for the stream parameter, which the engine adds by name).

        Raises ``InvalidArgument`` that names the method, the bad argument and the path within it.
        """
