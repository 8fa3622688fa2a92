"""The seam between Python values and payload bytes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final

from duplex._errors import DecodeError

Buffer: TypeAlias = bytes | bytearray | memoryview


class LiveKind(enum.IntEnum):
    """Values that stay connected to their origin. The numbers are the msgpack extension types of drpc.md."""

    #: A function of the sender of the value; who receives it may call it.
    CALLBACK = 3
    #: Who receives the value gets the sending end of a channel; the sender of the value receives.
    SEND_CHANNEL = 4
    #: Who receives the value gets the receiving end of a channel; the sender of the value sends.
    RECEIVE_CHANNEL = 5


class LiveValues(Protocol):
    """What a codec has to know of the call that a value belongs to, beside the value: turns callbacks and channels
    into numbers and back. The engine implements it, for one call each."""

    @property
    def max_attachments(self) -> int:
        """How many attachments the receiver takes in one message; what is beyond goes into the payload."""

    @property
    def max_elements(self) -> int:
        """How many elements a payload may hold that is decoded here; see :attr:`duplex.Limits.max_elements`."""

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        """Make ``value`` reachable for the other side and return its kind and id; ``None`` if it is not a
        value that can stay connected."""

    def import_(self, kind: LiveKind, number: int) -> Any:
        """Return the local object for a value of the other side, its types still unknown.
        Raises ``DecodeError`` if there is no such value."""

    def adapt(self, value: Any, annotation: Any) -> Any:
        """Return ``value``, an object from :meth:`import_`, made fit for ``annotation`` (such as
        ``Callback[[int], None]`` or ``ReceiveChannel[int]``, whose item types it takes on). Raises
        ``DecodeError`` if it is of another kind, or no such object at all but, say, a number."""


@final
class Unconnected:
    """What a codec has to know of a message in which no callback and no channel can travel.

    Args:
        max_attachments: see :attr:`LiveValues.max_attachments`.
        max_elements: see :attr:`LiveValues.max_elements`.
    """

    __slots__ = ("max_attachments", "max_elements")

    def __init__(self, max_attachments: int, max_elements: int) -> None:
        self.max_attachments = max_attachments
        self.max_elements = max_elements

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        """See :meth:`LiveValues.export`: nothing can stay connected."""
        return None

    def import_(self, kind: LiveKind, number: int) -> Any:
        """See :meth:`LiveValues.import_`. Raises ``DecodeError``."""
        raise DecodeError(f"a {kind.name.lower().replace('_', ' ')} arrived where none can be used")

    def adapt(self, value: Any, annotation: Any) -> Any:
        """See :meth:`LiveValues.adapt`. Raises ``DecodeError``."""
        name = getattr(annotation, "__name__", annotation)
        raise DecodeError(f"Expected `{name}`, which only a call can carry, got `{type(value).__name__}`")


#: ``decoder(payload, attachments, live) -> value``; raises ``DecodeError`` with the path to the bad field.
Decoder: TypeAlias = Callable[[bytes, Sequence[Buffer], LiveValues | None], Any]


class Codec(Protocol):
    """Turns values into a payload with attachments, and back. Stateless, so one instance serves everyone,
    in every thread."""

    @property
    def name(self) -> str:
        """The name in ``HELLO`` and ``OPEN``."""

    def encode(self, value: Any, live: LiveValues | None = None) -> tuple[bytes, Sequence[Buffer]]:
        """Return the payload and its attachments (an empty tuple in the usual case).

        There are no more attachments than ``live`` says that the receiver takes.

        Attachments are one-dimensional views of bytes, of the value's own memory where that is possible:
        the value must not change until they are sent. Raises ``EncodeError`` that names the type, its place
        in the value, and what can travel instead. A value that cannot travel may have been exported in part.
        """

    def decoder(self, annotation: Any) -> Decoder:
        """Compile a decoder for a type (``Any`` for whatever comes). The same type gives the same decoder.

        What comes out without a copy (``memoryview``, arrays) is read-only: others may look at that memory.
        Raises ``ConfigurationError`` for a type that cannot travel.
        """

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """Validate a value that was decoded as ``Any`` against a type, and return it as that type.
        Raises ``DecodeError`` with the path to the bad field, and ``ConfigurationError`` as :meth:`decoder`
        does."""

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """Encode the arguments of a call, as :meth:`encode` does a value: ``[positional, keyword]``, or
        ``[positional]`` without keyword arguments. ``positional`` is a list or a tuple."""

    def decode_arguments(
        self,
        payload: bytes,
        attachments: Sequence[Buffer],
        live: LiveValues | None = None,
        *,
        views: bool = False,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments of a call, their types still unknown; then bind
        them and :meth:`convert` each. Raises ``DecodeError``.

        Args:
            payload: from :meth:`encode_arguments`.
            attachments: likewise.
            live: for callbacks and channels.
            views: leave an argument that is itself a large buffer as a read-only ``memoryview`` of the
                attachment. :meth:`convert` makes ``bytes`` of it, for ``Any`` too, unless the type is
                ``memoryview``: so a parameter of that type is never copied.
        """
