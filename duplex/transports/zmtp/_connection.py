"""One end of a connection: bytes in, messages out, and bytes that are to be sent."""

# How bytes become messages
# =========================
#
# What comes in one read of a socket is mostly one small message, or many of them, or a piece of a large one; each has to cost
# little.
#
#  * ``receive`` is a generator over one chunk. Its state is in local variables, and the head of the usual frame (the only one of its
#    message) is looked at with two comparisons. The taker of the messages may stop after any of them and go on later, so that no
#    chunk, however many messages are in it, holds up others for long. What is not ZMTP is told in its place: the messages before
#    it have come.
#
#  * What is left of a chunk, an incomplete head or frame, is put before the next chunk. That copies it, so it is done for frames
#    below LARGE only.
#
#  * The body of a larger one has a buffer of its own from the moment on at which its head has come. ``room()`` is where the rest is
#    to go, and the owner of the socket has the kernel put it there (``recv_into``), without a copy in between; ``receive`` copies it
#    there too, where chunks come in another way. Where the buffer comes from is an argument: it may be used again.
#
# A frame's size is compared with the bounds before there is a buffer, and so is what its message comes to with it.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Final, TypeAlias, final

from duplex.transports.zmtp._bounds import Bounds
from duplex.transports.zmtp._commands import (
    Properties,
    decode_command,
    decode_ping,
    decode_refusal,
    encode_command,
    encode_ping,
)
from duplex.transports.zmtp._errors import ZmtpError
from duplex.transports.zmtp._frames import COMMAND, LARGE, LONG, MORE, RESERVED, U64
from duplex.transports.zmtp._greeting import SIZE, Greeting, decode_greeting, encode_greeting
from duplex.transports.zmtp._mechanism import Mechanism

#: A message: its frames. The first is bytes, and others from LARGE bytes on are read-only views.
Message: TypeAlias = "Sequence[bytes | memoryview]"

#: Which sockets may be linked with which (RFC 28), of those that this side can be.
COMPATIBLE: Final[Mapping[str, frozenset[str]]] = {
    "DEALER": frozenset({"ROUTER", "DEALER", "REP"}),
    "ROUTER": frozenset({"DEALER", "ROUTER", "REQ"}),
}
#: Bytes of a command. Less than a large frame has.
LONGEST_COMMAND: Final = LARGE - 1
#: Bytes of the name that a socket may have.
_LONGEST_IDENTITY: Final = 255
#: Answers to PINGs that wait to be sent; of more the oldest are forgotten, as a peer that pings waits for one at a time.
_MOST_PONGS: Final = 16
_HIGHEST: Final = 2**63 - 1


class _State(Enum):
    GREETING = auto()
    HANDSHAKE = auto()
    READY = auto()


@final
class _LargeFrame:
    """A large frame of which a part has come.

    Args:
        buffer: where it goes; perhaps larger than it has to be.
        size: bytes of the frame.
        more: whether another frame of the message follows.

    Attributes:
        filled: bytes that have come.
    """

    __slots__ = ("_buffer", "filled", "more", "size")

    def __init__(self, buffer: bytearray, size: int, *, more: bool) -> None:
        self._buffer = buffer
        self.size = size
        self.more = more
        self.filled = 0

    def room(self) -> memoryview:
        """Return where the rest is to go."""
        return memoryview(self._buffer)[self.filled : self.size]

    def take(self, data: bytes | memoryview) -> int:
        """Take as much as there is room for from the beginning of some bytes, and tell how much."""
        count = min(len(data), self.size - self.filled)
        self._buffer[self.filled : self.filled + count] = memoryview(data)[:count]
        self.filled += count
        return count

    def body(self) -> memoryview:
        """Return the frame, once it is complete."""
        return memoryview(self._buffer)[: self.size].toreadonly()


@final
class ZmtpConnection:
    """One end of a connection. After a :exc:`ZmtpError` it takes nothing any more.

    Args:
        socket_type: what this side is: ``DEALER`` or ``ROUTER``.
        mechanism: its part of the handshake, new for each connection.
        before: what is taken of a stranger: until :meth:`trust`.
        after: what is taken then.
        allocate: returns a buffer of at least so many bytes, for a large frame. It has it to itself as long as it, or a view of it,
            is referred to.

    Attributes:
        received: bytes that have come in all.
        greeting: what the other side speaks; ``None`` until it has said so.
        properties: of the other side's socket; ``None`` until the handshake is over, and messages can be sent.
        ttl: what the other side's latest PING has asked for: to end the connection after so many seconds of silence; 0 for nothing.
        pongs: answers to this side's PINGs that have come.
    """

    __slots__ = (
        "_after",
        "_allocate",
        "_bounds",
        "_commands",
        "_error",
        "_frames",
        "_held",
        "_large",
        "_left",
        "_longest",
        "_mechanism",
        "_out",
        "_pongs",
        "_socket_type",
        "_state",
        "greeting",
        "pongs",
        "properties",
        "received",
        "ttl",
    )

    def __init__(
        self,
        *,
        socket_type: str,
        mechanism: Mechanism,
        before: Bounds,
        after: Bounds,
        allocate: Callable[[int], bytearray] = bytearray,
    ) -> None:
        self._socket_type = socket_type
        self._mechanism = mechanism
        self._bounds = before
        #: Bytes of the longest message of one frame that may come now.
        self._longest = min(before.frame, before.message)
        self._after = after
        self._allocate = allocate
        self._state = _State.GREETING
        self._error: ZmtpError | None = None
        #: What has come and cannot be acted on yet.
        self._left = b""
        #: What has come of a message that is not complete, and bytes in it.
        self._frames: list[bytes | memoryview] = []
        self._held = 0
        self._large: _LargeFrame | None = None
        self._commands = 0
        self._out = encode_greeting(mechanism.name.encode("ascii"), as_server=mechanism.as_server)
        #: The latest answers to PINGs.
        self._pongs: list[bytes] = []
        self.received = 0
        self.greeting: Greeting | None = None
        self.properties: Properties | None = None
        self.ttl = 0.0
        self.pongs = 0

    # -- what is to be sent --------------------------------------------------------------------------------

    @property
    def has_to_send(self) -> bool:
        """Whether there is something in :meth:`data_to_send`."""
        return bool(self._out or self._pongs)

    def data_to_send(self) -> bytes:
        """Return what this side has to say of itself: greetings, the handshake, PINGs and answers to them. Messages are not among
        it, and go after it."""
        data = self._out + b"".join(self._pongs)
        self._out = b""
        self._pongs.clear()
        return data

    def ping(self, ttl: float = 0.0, context: bytes = b"") -> bool:
        """Ask for a sign of life, if the other side understands that: from ZMTP 3.1 on. Tell whether it does.

        Args:
            ttl: seconds of silence after which the other side may end the connection; 0 if it decides itself.
            context: what is to come back, up to 16 bytes.
        """
        if self._state is not _State.READY or self.greeting is None or self.greeting.version < (3, 1):
            return False
        self._out += encode_ping(ttl, context)
        return True

    # -- what came -----------------------------------------------------------------------------------------

    def trust(self) -> None:
        """The other side is no stranger any more: the wider bounds hold from the next frame on."""
        self._bounds = self._after
        self._longest = min(self._after.frame, self._after.message)
        self._commands = 0

    def receive(self, data: bytes) -> Iterator[Message]:
        """Take what came, and yield each message that is complete. What came is acted on as far as messages are asked for, and
        nothing else may be received before the last one was.

        Args:
            data: the next bytes of the stream.

        Raises:
            ZmtpError: what came is not ZMTP, or too much.
        """
        if self._error is not None:
            raise self._error
        self.received += len(data)
        if self._left:
            data = self._left + data
            self._left = b""
        position = 0
        end = len(data)
        try:
            if self._large is not None:
                position = self._large.take(data)
                message = self._finish_large()
                if message is not None:
                    yield message
            elif self._state is _State.GREETING:
                if not self._greet(data):
                    self._left = data
                    return
                position = SIZE
            while end - position >= 2:
                # -- head
                flags = data[position]
                if flags & LONG:
                    if end - position < 9:
                        break
                    (size,) = U64.unpack_from(data, position + 1)
                    start = position + 9
                else:
                    size = data[position + 1]
                    start = position + 2
                stop = start + size
                # -- the usual: the only frame of a message, whole
                if not flags & ~LONG and not self._frames and self._state is _State.READY:
                    if size > self._longest:
                        self._check_frame(size)
                    if stop <= end:
                        body = data[start:stop]
                        position = stop
                        yield (body,)
                        continue
                # -- all others
                elif flags & (RESERVED | COMMAND):
                    self._check_command(flags, size)
                    if stop > end:
                        break
                    body = data[start:stop]
                    self._take_command(body)
                    position = stop
                    continue
                else:
                    self._check_frame(size)
                    if stop <= end:
                        body = data[start:stop]
                        position = stop
                        message = self._add(body, more=bool(flags & MORE))
                        if message is not None:
                            yield message
                        continue
                # -- a part of a frame
                if size >= LARGE:
                    self._large = _LargeFrame(self._room_for(size), size, more=bool(flags & MORE))
                    self._large.take(memoryview(data)[start:])
                    position = end
                break
        except ZmtpError as error:
            error.at = self.received - end + position
            self._error = error
            raise
        if position < end:
            self._left = data[position:]

    def _room_for(self, size: int) -> bytearray:
        try:
            return self._allocate(size)
        except MemoryError:
            raise ZmtpError("bounds", f"there is no memory for a frame of {size} bytes") from None

    def room(self) -> memoryview | None:
        """Return where the rest of a large frame is to go; ``None`` if none is under way. Let go of it before :meth:`filled`."""
        return None if self._large is None else self._large.room()

    def filled(self, count: int) -> Message | None:
        """So many bytes were put into :meth:`room`. Return the message that is complete with them."""
        assert self._large is not None
        self.received += count
        self._large.filled += count
        return self._finish_large()

    def forget(self) -> None:
        """The connection is over: keep nothing of what cannot be completed any more."""
        self._left = b""
        self._frames = []
        self._held = 0
        self._large = None

    # -- frames --------------------------------------------------------------------------------------------

    def _check_frame(self, size: int) -> None:
        """Raise if no frame of a message may come now, or none of this size."""
        bounds = self._bounds
        if self._state is not _State.READY:
            raise ZmtpError("handshake", "a message came before the handshake was over")
        if size > _HIGHEST:
            raise ZmtpError("frame", f"a frame has {size} bytes, which is more than there can be")
        if size > bounds.frame:
            raise ZmtpError("bounds", f"a frame has {size} bytes, and {bounds.frame} are allowed")
        if self._held + size > bounds.message:
            raise ZmtpError("bounds", f"a message has more than the {bounds.message} bytes that are allowed")
        if len(self._frames) >= bounds.frames:
            raise ZmtpError("bounds", f"a message has more than the {bounds.frames} frames that are allowed")

    def _add(self, body: bytes | memoryview, *, more: bool) -> Message | None:
        """Add a frame to its message, and return that if it is complete."""
        frames = self._frames
        frames.append(memoryview(body) if frames and len(body) >= LARGE else body)
        if more:
            self._held += len(body)
            return None
        self._frames = []
        self._held = 0
        return frames

    def _finish_large(self) -> Message | None:
        """Return the message that is complete with the large frame under way, if that is complete."""
        large = self._large
        assert large is not None
        if large.filled < large.size:
            return None
        self._large = None
        body = large.body()
        return self._add(body if self._frames else bytes(body), more=large.more)

    # -- greeting, handshake, commands ---------------------------------------------------------------------

    def _greet(self, data: bytes) -> bool:
        """Look at the greeting; tell whether it is complete."""
        greeting = decode_greeting(data)
        if greeting is None:
            return False
        mechanism = self._mechanism
        if greeting.mechanism != mechanism.name:
            raise ZmtpError(
                "mechanism",
                f"the other side wants the mechanism {greeting.mechanism}, and this side {mechanism.name}",
            )
        self.greeting = greeting
        self._state = _State.HANDSHAKE
        self._out += mechanism.begin({"Socket-Type": self._socket_type.encode("ascii"), "Identity": b""})
        return True

    def _check_command(self, flags: int, size: int) -> None:
        if flags & RESERVED:
            raise ZmtpError("frame", f"a frame has the flags {flags:#04x}, some of which have no meaning")
        if flags & MORE:
            raise ZmtpError(
                "frame",
                f"a command has the flags {flags:#04x}: more is to follow, which is for messages only",
            )
        if size > LONGEST_COMMAND:
            raise ZmtpError("command", f"a command has {size} bytes, and {LONGEST_COMMAND} are allowed")

    def _take_command(self, content: bytes) -> None:
        command = decode_command(content)
        is_ping = command.name in (b"PING", b"PONG") and self._state is _State.READY
        if not is_ping or self._bounds is not self._after:
            self._commands += 1
            if self._commands > self._bounds.commands:
                raise ZmtpError("command", f"more than {self._bounds.commands} commands came")
        if command.name == b"ERROR":
            raise ZmtpError(
                "refused", f"the other side refuses the connection: {decode_refusal(command.body)!r}"
            )
        if self._state is _State.HANDSHAKE:
            answer, properties = self._mechanism.receive(command)
            self._out += answer
            if properties is not None:
                self._check_properties(properties)
                self.properties = properties
                self._state = _State.READY
        elif command.name == b"PING":
            self.ttl, context = decode_ping(command.body)
            self._pongs.append(encode_command(b"PONG", context))
            del self._pongs[:-_MOST_PONGS]
        elif command.name == b"PONG":
            self.pongs += 1
        # Others, such as SUBSCRIBE, are for sockets of other types, or of later versions: they are counted, and ignored.

    def _check_properties(self, properties: Properties) -> None:
        remote = properties.get("socket-type", b"").decode("latin-1")
        if remote not in COMPATIBLE[self._socket_type]:
            raise ZmtpError(
                "socket type",
                f"the other side is a socket of type {remote!r}, and a {self._socket_type} can be linked with "
                f"{', '.join(sorted(COMPATIBLE[self._socket_type]))} only",
            )
        identity = properties.get("identity", b"")
        if len(identity) > _LONGEST_IDENTITY:
            raise ZmtpError(
                "metadata",
                f"the other side's Identity has {len(identity)} bytes, and {_LONGEST_IDENTITY} are possible",
            )
