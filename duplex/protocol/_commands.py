"""The commands of the wire, as data.

Frame 0 of every message is one msgpack array of commands. Every command is a msgpack array whose first
element is its number, and every class here is one command: its fields are the array's other elements, in
order, with their types and bounds. msgspec compiles the classes into a decoder that checks all of it in one
pass, so what reaches :mod:`duplex.protocol._connection` has the right shape, and what does not is a
``RemoteProtocolError`` that names the place. Fields with a default may be left out from the end; elements
after the last known field are ignored, so that later versions can add some.

``spec/dmtp.md`` says the same in prose. A command is also an event or an action: nothing is copied between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Raw, Struct

#: Numbers of channels, credits and times fit a JavaScript number.
MAX_INTEGER: Final = 2**53 - 1
#: Bytes in a name (UTF-8): a service, a method, a peer, a codec. msgspec counts characters, which is at
#: most this many; the connection counts bytes where it matters.
MAX_NAME: Final = 255
#: Characters in a human-readable message or reason text.
MAX_TEXT: Final = 8192
#: Services that one peer may announce.
MAX_SERVICES: Final = 1024
#: Bytes of a frame 0 that has the HELLO of the connecting side.
MAX_HELLO: Final = 64 * 1024
#: Entries of metadata or trailers.
MAX_ENTRIES: Final = 256
#: Elements of a frame 0 that is larger than a batch has to be: see :mod:`duplex._elements`.
MAX_ELEMENTS: Final = 65_536
#: The protocol's name, so that a stray connection of another protocol is told at once.
PROTOCOL_NAME: Final = "DMTP"
#: The versions that this implementation speaks, lowest and highest.
VERSIONS: Final = (1, 1)

UInt = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
ChannelId = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
# What one batch may hold thousands of stays bytes until it is its command's turn: the type that it then has stands
# beside it. And values of entries stay bytes until they are known to be text or binary, so that nothing else is ever
# made of them.
EntryMap = Annotated[dict[str, Raw], Meta(max_length=MAX_ENTRIES)] | None
Entries = Annotated[Raw, EntryMap]
#: What a missing field of that type has: nil.
NO_ENTRIES: Final = Raw(b"\xc0")

# Flags of OPEN and DATA.
#: No message follows this one in this direction.
END: Final = 1
#: OPEN only: the opener takes exactly one message, the one in CLOSE.
UNARY: Final = 2
#: OPEN only: the opener wants no answer; the channel is over for both sides as soon as it is open.
NOTIFY: Final = 4
#: DATA only: this message is the result of a unary method; ``CLOSE`` follows once the callbacks and channels
#: in it are done with.
RESULT: Final = 2


class ServiceInfo(Struct, frozen=True, gc=False):
    """A service that a peer offers: a msgpack map, in ``HELLO`` and ``ANNOUNCE``."""

    name: Name
    version: Annotated[str, Meta(max_length=MAX_NAME)] = "0.0.0"


Services = Annotated[tuple[ServiceInfo, ...], Meta(max_length=MAX_SERVICES)]


class LimitsInfo(Struct, frozen=True, gc=False):
    """What the sender of ``HELLO`` takes: a msgpack map. Missing entries have the defaults here."""

    max_message: Annotated[int, Meta(ge=1024, le=MAX_INTEGER)] = 16 * 1024 * 1024
    max_attachments: UInt = 64
    max_commands: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] = 1024
    max_metadata: UInt = 8192
    max_channels: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] = 4096
    channel_window: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] = 1024 * 1024
    link_window: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] = 16 * 1024 * 1024


class Hello(Struct, array_like=True, tag=0, frozen=True):
    """``HELLO``: who I am and what I take; the first command each way."""

    protocol: Name
    lowest_version: UInt
    highest_version: UInt
    peer_id: Name
    name: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    codecs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=32)] = ("msgpack",)
    features: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()
    limits: LimitsInfo = LimitsInfo()
    services: Services = ()
    credentials: Annotated[bytes, Meta(max_length=8192)] | None = None


class HelloAgain(Struct, array_like=True, tag=0, frozen=True, gc=False):
    """A ``HELLO`` of which only is to be said that it comes too late: nothing of what is in it is made."""


class Refuse(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """``REFUSE``: no link comes about, and why."""

    reason: Name
    message: Text = ""


class Announce(Struct, array_like=True, tag=2, frozen=True):
    """``ANNOUNCE``: the services that I offer from now on, all of them."""

    services: Annotated[Raw, Services]


class Ping(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """``PING``: answer with the same token. ``delay`` is the sender's own loop delay in microseconds."""

    token: UInt
    delay: UInt = 0


class Pong(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """``PONG``: the answer to ``PING``."""

    token: UInt
    delay: UInt = 0


class Goaway(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """``GOAWAY``: I take no new channels; yours up to ``last_channel`` are finished, later ones never began.

    Channels with a ``parent`` that runs are part of what is being finished, whatever their numbers. The sender
    of ``GOAWAY`` may itself still open channels: what it finishes may need them.
    """

    last_channel: UInt
    reason: Name
    message: Text = ""


class Credit(Struct, array_like=True, tag=6, frozen=True, gc=False):
    """``CREDIT``: you may send so many more bytes on the channel, or on the link if ``channel`` is 0."""

    channel: UInt
    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class Open(Struct, array_like=True, tag=7, frozen=True):
    """``OPEN``: begin a channel, usually a call, perhaps with its first message.

    ``target`` is a method's name, or the number of a callback that the receiver passed, or nil for a channel
    that is itself a value. ``timeout`` is the remaining time in milliseconds. ``window`` is what the
    responder may send before it is granted more (nil: the opener's ``channel_window``). ``parent`` is the
    channel of the call that this channel belongs to. ``codec`` nil means msgpack.
    """

    channel: ChannelId
    target: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] | UInt | None
    flags: UInt = 0
    payload: bytes | None = None
    attachments: UInt = 0
    timeout: UInt | None = None
    metadata: Entries = NO_ENTRIES
    window: UInt | None = None
    parent: ChannelId | None = None
    codec: Name | None = None


class Data(Struct, array_like=True, tag=8, frozen=True, gc=False):
    """``DATA``: one message, with that many of the batch's attachments."""

    channel: ChannelId
    payload: bytes
    flags: UInt = 0
    attachments: UInt = 0


class End(Struct, array_like=True, tag=9, frozen=True, gc=False):
    """``END``: no more messages in this direction."""

    channel: ChannelId


class Close(Struct, array_like=True, tag=10, frozen=True):
    """``CLOSE``: the responder ends the channel with a status and perhaps a last message.

    ``details`` is a value in the channel's codec.
    """

    channel: ChannelId
    status: UInt = 0
    payload: bytes | None = None
    attachments: UInt = 0
    message: Text = ""
    details: bytes | None = None
    trailers: Entries = NO_ENTRIES


class Cancel(Struct, array_like=True, tag=11, frozen=True, gc=False):
    """``CANCEL``: the opener abandons the channel; the responder answers with ``CLOSE``."""

    channel: ChannelId
    reason: Text = ""


Command = Hello | Refuse | Announce | Ping | Pong | Goaway | Credit | Open | Data | End | Close | Cancel
#: Those of an open link.
LaterCommand = (
    HelloAgain | Refuse | Announce | Ping | Pong | Goaway | Credit | Open | Data | End | Close | Cancel
)

#: What a sender may put in place of a command: the same array, so that trailing defaults can be left out.
RawCommand = Command | list[Any] | tuple[Any, ...]


def trim(metadata: Mapping[str, str | bytes] | None) -> dict[str, Any] | None:
    """Return metadata as the wire has it: nil when empty."""
    return dict(metadata) if metadata else None
