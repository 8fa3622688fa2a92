"""Every error that Duplex raises, in one tree.

::

    DuplexError
    ├─ RPCError(message, code=, details=)             the outcome of a call
    │   ├─ CallCancelled          CANCELLED           cancelled at the other side, or by its own handler
    │   ├─ Unknown                UNKNOWN
    │   ├─ InvalidArgument        INVALID_ARGUMENT
    │   ├─ DeadlineExceeded       DEADLINE_EXCEEDED
    │   ├─ NotFound               NOT_FOUND
    │   ├─ AlreadyExists          ALREADY_EXISTS
    │   ├─ PermissionDenied       PERMISSION_DENIED
    │   ├─ ResourceExhausted      RESOURCE_EXHAUSTED
    │   │   └─ MessageTooLarge                        refused before sending; .size and .limit
    │   ├─ FailedPrecondition     FAILED_PRECONDITION
    │   ├─ Aborted                ABORTED
    │   ├─ OutOfRange             OUT_OF_RANGE
    │   ├─ Unimplemented          UNIMPLEMENTED
    │   ├─ Internal               INTERNAL
    │   ├─ Unavailable            UNAVAILABLE
    │   │   ├─ NoPeers                                nobody offers the service whose peers were to be asked
    │   │   └─ PeerLost                               the link to the peer ended during the call
    │   ├─ DataLoss               DATA_LOSS
    │   └─ Unauthenticated        UNAUTHENTICATED
    ├─ ProtocolError                                  abstract: the wire's rules were broken
    │   ├─ LocalProtocolError                         by this side: a bug here
    │   ├─ RemoteProtocolError                        by the other side
    │   └─ HandshakeError(reason)                     the handshake was refused; .reason says why
    ├─ ConnectError                                   no link within the connect timeout
    ├─ BindError                                      an endpoint cannot be bound
    ├─ CodecError (ValueError)                        abstract
    │   ├─ EncodeError                                a value that cannot travel
    │   └─ DecodeError                                bytes that are no value of the expected type
    └─ ConfigurationError (ValueError)                an option, endpoint or declaration is wrong

Misuse of channels is told in trio's own words: :exc:`trio.EndOfChannel`, :exc:`trio.ClosedResourceError`,
:exc:`trio.BusyResourceError`. :exc:`trio.Cancelled` is never wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from duplex._status import StatusCode


def as_text(value: object) -> str:
    """Return a text for a human of anything, also of what has none."""
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception as problem:
        return f"<a {type(value).__name__}, whose text raises {type(problem).__name__}>"


class DuplexError(Exception):
    """The root of every error that Duplex raises."""


class RPCError(DuplexError):
    """The outcome of a call that did not succeed.

    Raise a subclass in a handler to give the caller that outcome; catch it, or a subclass, at the caller.

    Args:
        message: what went wrong and what to do about it, for a human. What is no ``str``, such as the exception that
            was the reason, is turned into one.
        code: the status; only for ``RPCError`` itself, every subclass has its own.
        details: a value for programs, of any type the call's codec can carry.

    Attributes:
        code: the :class:`StatusCode`.
        message: the text alone.
        details: the decoded details, or ``None``.
        method: ``service.method`` of the failed call, at the caller; else ``None``.
        peer: the name (or id) of the peer that was called, at the caller; else ``None``.
        metadata: trailers that came with the status.
        may_have_executed: ``False`` only if the handler certainly never started, so that retrying is safe.
        retry_after: seconds after which the same call may be tried again, where the other side says so. A handler
            may set it on an error before raising it.
        cancelled_by: ``"local"``, ``"remote"``, ``"deadline"`` or ``"link"`` where the call was cut short.
    """

    default_code: ClassVar[StatusCode] = StatusCode.UNKNOWN

    code: StatusCode
    message: str
    details: Any
    method: str | None
    peer: str | None
    metadata: Mapping[str, str | bytes]
    may_have_executed: bool
    retry_after: float | None
    cancelled_by: str | None
    #: Channels that were passed to the call went with it, so that it cannot be made again with the same arguments.
    _took_channels: bool = False

    def __new__(cls, *args: Any, **_: Any) -> Self:
        # Here rather than in __init__, which a subclass may have without calling ours: an error is whole all the same.
        self = super().__new__(cls, *args)
        self.code = cls.default_code
        self.message = as_text(args[0]) if len(args) == 1 else ""
        self.details = None
        self.method = None
        self.peer = None
        self.metadata = {}
        self.may_have_executed = True
        self.retry_after = None
        self.cancelled_by = None
        return self

    def __init__(self, message: object = "", *, code: StatusCode | None = None, details: Any = None) -> None:
        if code is None:
            code = self.default_code
        elif not isinstance(code, StatusCode):
            raise ConfigurationError(f"the code of an error is a duplex.StatusCode, not {code!r}")
        elif type(self) is not RPCError and code is not self.default_code:
            raise ConfigurationError(
                f"{type(self).__name__} always has the code {self.default_code.name}, not {code!r}"
            )
        elif code is StatusCode.OK:
            raise ConfigurationError("an RPCError cannot have the code OK; return a result instead")
        self.code = code
        self.message = as_text(message)
        self.details = details
        super().__init__(self.message)

    def __str__(self) -> str:
        text = self.message or self.code.name
        if self.method is None:
            return text
        if text.startswith(self.method):
            return f"{text} (at {self.peer})" if self.peer else text
        return f"{self.method} at {self.peer}: {text}" if self.peer else f"{self.method}: {text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.__dict__.copy())


def _restore(cls: type[RPCError], message: str, state: dict[str, Any]) -> RPCError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class CallCancelled(RPCError):
    """The call was cancelled at the other side, or its handler cancelled itself."""

    default_code = StatusCode.CANCELLED


class Unknown(RPCError):
    """An error of unknown kind."""

    default_code = StatusCode.UNKNOWN


class InvalidArgument(RPCError):
    """The arguments are wrong whatever the state of the system; the message names the bad field."""

    default_code = StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(RPCError):
    """The deadline passed before the call ended."""

    default_code = StatusCode.DEADLINE_EXCEEDED


class NotFound(RPCError):
    """Something the call refers to does not exist."""

    default_code = StatusCode.NOT_FOUND


class AlreadyExists(RPCError):
    """Something the call would create exists already."""

    default_code = StatusCode.ALREADY_EXISTS


class PermissionDenied(RPCError):
    """The caller is known but may not do this."""

    default_code = StatusCode.PERMISSION_DENIED


class ResourceExhausted(RPCError):
    """A quota, window or limit is used up; the message names the option."""

    default_code = StatusCode.RESOURCE_EXHAUSTED


class MessageTooLarge(ResourceExhausted):
    """A message was refused before it was sent, because the peer would not take it.

    Attributes:
        size: bytes of the message, attachments included.
        limit: bytes that the peer takes, ``Limits.max_message`` of the receiving side.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a message of {size} bytes is over the receiver's limit of {limit} bytes: open the receiving peer "
            f"with a higher Limits(max_message=...), or send it in pieces over a stream"
        )
        self.size = size
        self.limit = limit
        self.may_have_executed = False


class FailedPrecondition(RPCError):
    """The system is not in the state that the call needs."""

    default_code = StatusCode.FAILED_PRECONDITION


class Aborted(RPCError):
    """The call lost a race; retry at a higher level."""

    default_code = StatusCode.ABORTED


class OutOfRange(RPCError):
    """The call went past a valid range."""

    default_code = StatusCode.OUT_OF_RANGE


class Unimplemented(RPCError):
    """The service or the method does not exist at this peer."""

    default_code = StatusCode.UNIMPLEMENTED


class Internal(RPCError):
    """An invariant broke; the message of a handler's unexpected exception holds an incident id."""

    default_code = StatusCode.INTERNAL


class Unavailable(RPCError):
    """The peer cannot be reached or will not take the call now."""

    default_code = StatusCode.UNAVAILABLE


class NoPeers(Unavailable):
    """Nobody offers the service whose peers were all to be asked; the message says who is linked and offers what."""


class PeerLost(Unavailable):
    """The link to the peer ended while the call ran; ``may_have_executed`` says what is known of it."""


class DataLoss(RPCError):
    """Data was lost or corrupted beyond repair."""

    default_code = StatusCode.DATA_LOSS


class Unauthenticated(RPCError):
    """The caller did not say, or could not prove, who it is."""

    default_code = StatusCode.UNAUTHENTICATED


#: The class that stands for each status code at the caller.
ERROR_CLASSES: Mapping[int, type[RPCError]] = {
    cls.default_code: cls
    for cls in (
        CallCancelled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}


def error_for_status(code: int, message: str, details: Any = None) -> RPCError:
    """Make the error that stands for a status.

    Args:
        code: a status number other than 0; numbers above 16 become ``Unknown``.
        message: the status message.
        details: decoded details or ``None``.
    """
    return ERROR_CLASSES.get(code, Unknown)(message, details=details)


class ProtocolError(DuplexError):
    """The rules of the wire were broken. Abstract: see the two subclasses for by whom."""


class LocalProtocolError(ProtocolError):
    """This side tried something that the protocol does not allow in the present state: a bug here."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that the protocol does not allow; its link is closed.

    Attributes:
        events: what came before it in the same message, and has had its effect.
    """

    def __init__(self, message: str, events: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.events = events


class HandshakeError(ProtocolError):
    """The handshake was refused.

    Attributes:
        reason: ``"version"``, ``"codec"``, ``"auth"``, ``"limit"``, ``"draining"`` or ``"protocol"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"handshake refused ({reason}): {message}")
        self.reason = reason


class ConnectError(DuplexError):
    """No link came about within the connect timeout; the message names the endpoint."""


class BindError(DuplexError):
    """An endpoint cannot be bound: in use, no such interface, or no permission; the message names it."""


class CodecError(DuplexError, ValueError):
    """A value and its bytes do not go together. Abstract."""


class EncodeError(CodecError):
    """A value cannot travel; the message names its type and where it sits."""


class DecodeError(CodecError):
    """Bytes are not a value of the expected type; the message holds the path to the bad field."""


class ConfigurationError(DuplexError, ValueError):
    """An option, an endpoint or a declaration is wrong."""
