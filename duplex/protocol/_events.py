"""What a :class:`~duplex.protocol.Connection` tells its owner. Do not subclass; new fields may be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from duplex.protocol._commands import Hello, ServiceInfo
from duplex.protocol._flow import MESSAGE_OVERHEAD

Buffer: TypeAlias = bytes | bytearray | memoryview


class HelloReceived(Struct, frozen=True):
    """The connecting side introduced itself: answer with ``accept()`` or ``refuse()``. Binding side only."""

    #: What it said.
    remote: Hello


class LinkOpened(Struct, frozen=True):
    """The binding side accepted: channels may be opened. Connecting side only."""

    #: What the other side said of itself.
    remote: Hello


class LinkRefused(Struct, frozen=True):
    """The other side refused the handshake. The connection is closed."""

    #: ``version``, ``codec``, ``auth``, ``limit``, ``draining``, ``protocol``, or a word of a newer version.
    reason: str
    #: For a human.
    message: str


class ServicesAnnounced(Struct, frozen=True):
    """The other side offers these services from now on."""

    #: All of them; empty if none.
    services: tuple[ServiceInfo, ...]


class PingReceived(Struct, frozen=True, gc=False):
    """The other side is there; the answer is queued already."""

    #: Its own event loop's delay, in seconds.
    delay: float


class PongReceived(Struct, frozen=True, gc=False):
    """The other side answered a ping."""

    #: Seconds from our ping to this answer.
    round_trip: float
    #: The other side's own event loop's delay, in seconds.
    delay: float


class GoawayReceived(Struct, frozen=True):
    """The other side leaves: no new channels, but those whose parent runs. ``ChannelClosed`` follows for
    those that it never began."""

    #: ``draining``, ``idle``, ``closing``, ``protocol``, or a word of a newer version.
    reason: str
    #: For a human.
    message: str


class ChannelOpened(Struct, frozen=True):
    """The other side opened a channel."""

    channel: int
    #: A method's name, the number of a callback, or ``None`` for a channel that is itself a value.
    target: str | int | None
    #: No message follows the first one.
    end: bool
    #: The opener takes exactly one message, in ``close()``.
    unary: bool
    #: The opener wants no answer; the channel is over already.
    notify: bool
    #: The first message, or ``None``.
    payload: bytes | None
    attachments: Sequence[Buffer]
    #: Bytes of credit that the first message cost; give them back with ``consumed()``, or, if ``notify``,
    #: with ``finish()`` when the handler has ended.
    cost: int
    #: Remaining time in seconds, or ``None``.
    timeout: float | None
    metadata: Mapping[str, str | bytes]
    #: The channel of the call this channel belongs to, or ``None``.
    parent: int | None
    codec: str


class MessageReceived(Struct, frozen=True, gc=False):
    """A message on an open channel."""

    channel: int
    payload: bytes
    attachments: Sequence[Buffer]
    #: Bytes of credit that it cost; give them back with ``consumed()`` once it was taken.
    cost: int
    #: It is the result of a unary method, and the channel stays open for what it carries.
    result: bool = False


class ItemsReceived(Struct, frozen=True, gc=False):
    """Two messages or more that came one after the other on an open channel, with nothing but payloads: the
    items of a stream, as they usually come."""

    channel: int
    payloads: list[bytes]
    #: Bytes of credit that they cost together.
    cost: int

    def messages(self) -> list[MessageReceived]:
        """Return the same as one event for each message."""
        return [
            MessageReceived(self.channel, payload, (), len(payload) + MESSAGE_OVERHEAD)
            for payload in self.payloads
        ]


class EndReceived(Struct, frozen=True, gc=False):
    """The other side sends no more messages on the channel."""

    channel: int


class ChannelClosed(Struct, frozen=True):
    """A channel that this side opened is over."""

    channel: int
    status: int
    #: The last message, or ``None``.
    payload: bytes | None
    attachments: Sequence[Buffer]
    message: str
    #: A value in the channel's codec, or ``None``.
    details: bytes | None
    trailers: Mapping[str, str | bytes]
    #: ``False`` if the other side certainly never began.
    may_have_executed: bool = True


class CancelReceived(Struct, frozen=True, gc=False):
    """The opener abandoned a channel, or broke its rules: stop, and answer with ``close()`` when you have.

    ``closed`` is true if the channel is over already, as it is when the opener broke the rules.
    """

    channel: int
    reason: str
    closed: bool = False


class CreditReceived(Struct, frozen=True, gc=False):
    """More may be sent on the channel, or on the link if ``channel`` is 0."""

    channel: int


Event: TypeAlias = (
    HelloReceived
    | LinkOpened
    | LinkRefused
    | ServicesAnnounced
    | PingReceived
    | PongReceived
    | GoawayReceived
    | ChannelOpened
    | MessageReceived
    | ItemsReceived
    | EndReceived
    | ChannelClosed
    | CancelReceived
    | CreditReceived
)


#: The shared empty metadata.
NO_METADATA: Final[Mapping[str, Any]] = {}
