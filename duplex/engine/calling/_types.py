"""The static types of remote methods, and of the options of their calls."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Never, ParamSpec, Protocol, Self, TypedDict, TypeVar, Unpack, overload

from duplex._balancing import Balancing
from duplex._config import Overflow
from duplex._metadata import Metadata
from duplex._policies import HedgingPolicy, RetryPolicy
from duplex.codec import Codec
from duplex.engine.calling._gathering import Gathering
from duplex.engine.calling._outgoing import OutgoingCall
from duplex.engine.channels import ResumableStream

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
SendT_ = TypeVar("SendT_", contravariant=True)


class OtherOptions(TypedDict, total=False):
    """The options of a call that do not change what opening it gives."""

    timeout: float | None
    metadata: Metadata | None
    codec: str | Codec
    wait_for_ready: bool
    idempotency_key: str | None
    overflow: Overflow | None
    idempotent: bool | None
    retry: RetryPolicy | None
    hedging: HedgingPolicy | None
    balancer: Balancing | None
    max_answers: int | None
    stall: float | None
    middleware: Iterable[Callable[[Any, Any], Coroutine[Any, Any, Any]]]


class CallOptions(OtherOptions, total=False):
    """What ``with_options`` takes, for those who pass options on: see :meth:`duplex.ServiceProxy.with_options`."""

    resume: bool


class Unary(Protocol[P, R]):
    """The static type of a remote unary method, for attributes of a class given to ``peer.service(cls)``::

        class Calc(Protocol):
            add: duplex.Unary[[int, int], int]

    Declaring ``async def add(self, a: int, b: int) -> int`` does the same, without the methods below.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the method and return its result."""

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[OutgoingCall[Never, R]]:
        """Open the call, whose ``result()`` is the method's."""

    def notify(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]:
        """Call the method without waiting for its outcome."""

    def gather(self, *args: P.args, **kwargs: P.kwargs) -> Gathering[R]:
        """Call the method at every peer that offers the service."""

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return the method with other options."""


class Streaming(Protocol[P, SendT_, R]):
    """The static type of a remote streaming method, for attributes of a class given to ``peer.service(cls)``::

    class Calc(Protocol):
        count: duplex.Streaming[[int], Never, int]      # arguments, items sent, items received
        total: duplex.Streaming[[], int, int]           # the result counts as received

    For a resumable method that is opened with ``resume=True``, declare the type of the values.
    """

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[OutgoingCall[SendT_, R]]:
        """Open the call."""

    @overload
    def with_options(  # type: ignore[overload-overlap] # resume=True is one of CallOptions' as well
        self, *, resume: Literal[True], **options: Unpack[OtherOptions]
    ) -> Resuming[P, R]: ...

    @overload
    def with_options(self, **options: Unpack[CallOptions]) -> Self: ...

    def with_options(self, **options: Any) -> Any:
        """Return the method with other options."""


class Resuming(Protocol[P, R]):
    """The static type of ``method.with_options(resume=True)``; see :class:`Streaming`."""

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[ResumableStream[R]]:
        """Open a stream that goes on after a lost link."""
