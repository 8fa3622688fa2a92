"""One connection: a carrier over a byte stream that speaks ZMTP."""

# What a turn costs
# =================
#
# A call takes two messages, and a message a system call on either side: one that sends, one that receives. So
#
#  * a message is sent when it is handed over, from within ``send``, and waits only for what the kernel does not take;
#  * a turn reads once, 64 KiB, which is mostly all there is. (More would be a buffer from the kernel's pages each time; see
#    ``_pool.py``.) Nobody asks whether there is more: the descriptor tells, and an ``EAGAIN`` costs as much as a message.
#  * When the chunk was full and a large frame has begun in it, its rest is probably there. It is read into its place in the same turn,
#    as far as a megabyte, instead of after another pass of the event loop for each piece.
#  * Messages of a chunk are delivered one by one. After a millisecond the others wait for the next turn, in ``_messages``, and nothing
#    is read meanwhile, so that the kernel makes the sender wait.
#
# How a connection ends
# =====================
#
# What is said of the end is said once, from within a turn, after all that had come before it. So an error of a *send* only notes
# why (``gone``): that nothing can be sent does not mean that nothing came. The socket is shut down then, so that reading comes to its
# end, too. ``ended`` is what reading has found, and the port acts on it.

from __future__ import annotations

import contextlib
import dataclasses
import math
import socket
import time
from collections.abc import Iterator
from typing import Final, Protocol, final

from duplex._identity import ANONYMOUS
from duplex.transports._base import CarrierDown, Frames, Receiver, TransportOptions, Turns
from duplex.transports.streams._sockets import Wire
from duplex.transports.streams._tls import TlsError, TlsWire
from duplex.transports.streams._unsent import Unsent
from duplex.transports.zmtp import LARGE, Bounds, ZmtpConnection, ZmtpError, encode_frame, encode_message

#: Bytes that are read at once. Buffers of this size are none of those that the C library gets from the kernel each time.
CHUNK: Final = 64 * 1024
#: Bytes of a large frame that are read in one turn.
_LONG_READ: Final = 1024 * 1024
#: Seconds after which no further message of a chunk is delivered in the same turn.
LONG_TURN: Final = 0.001
#: Messages that wait here for a remote end to take them; one that has stopped reading counts as gone.
MOST_WAITING: Final = 100_000
#: Commands that mean nothing here; and all commands until the first message.
_MOST_COMMANDS: Final = 1024
_MOST_COMMANDS_BEFORE: Final = 64
CLOSED: Final = "the connection was closed or lost"


def bounds_of(options: TransportOptions, *, is_accepted: bool) -> tuple[Bounds, Bounds]:
    """Return what is taken until the first message, and then. Who was connected to may say anything with its first one."""
    after = Bounds(
        frame=options.max_frame,
        frames=options.max_frames,
        message=max(options.max_frame, options.max_message),
        commands=_MOST_COMMANDS,
    )
    if not is_accepted:
        return dataclasses.replace(after, commands=_MOST_COMMANDS_BEFORE), after
    first = min(options.max_hello, options.max_frame)
    return Bounds(frame=first, frames=1, message=first, commands=_MOST_COMMANDS_BEFORE), after


def _reason(error: OSError) -> str:
    """Return why a connection is over."""
    return CLOSED if isinstance(error, ConnectionError) else f"{CLOSED}: {error.strerror or error}"


class ConnectionOwner(Protocol):
    """The port."""

    receiver: Receiver

    @property
    def turns(self) -> Turns:
        """Those in which messages come."""

    def want_to_write(self, connection: Connection) -> None:
        """Call :meth:`Connection.write` once the stream takes something again. Must not reschedule tasks."""

    def note_up(self, connection: Connection) -> None:
        """The receiver is about to be told of it."""

    def note_first(self, connection: Connection) -> None:
        """The first message has come."""

    def note_closed(self, connection: Connection) -> None:
        """The receiver has closed the carrier."""


@final
class Connection:
    """A carrier.

    Args:
        owner: the port.
        wire: a connected socket that does not block.
        address: where the other end is.
        zmtp: the protocol, new.
        is_accepted: at a bound port, where a remote end is reported with its first message. Else it is as soon as messages
            can be sent.

    Attributes:
        gone: why nothing can be sent any more.
        is_closed: the receiver has closed it, or knows of its end.
        is_up: the receiver knows of it.
        ended: why nothing comes any more, when all that came was delivered.
        why: what was wrong with what came, if that is why.
    """

    __slots__ = (
        "__weakref__",
        "_is_stranger",
        "_messages",
        "_owner",
        "_unsent",
        "address",
        "debt",
        "ended",
        "gone",
        "is_accepted",
        "is_closed",
        "is_up",
        "seen",
        "silent_since",
        "why",
        "wire",
        "zmtp",
    )

    identity: Final = ANONYMOUS

    def __init__(
        self,
        owner: ConnectionOwner,
        wire: Wire,
        address: str,
        zmtp: ZmtpConnection,
        *,
        is_accepted: bool,
    ) -> None:
        self._owner = owner
        self.wire = wire
        self.address = address
        self.zmtp = zmtp
        self.is_accepted = is_accepted
        self._is_stranger = True
        #: The messages of a chunk that are not delivered yet.
        self._messages: Iterator[Frames] | None = None
        #: What the stream has not taken; ``None`` most of the time, as there are many connections.
        self._unsent: Unsent | None = None
        self.gone: str | None = None
        self.is_closed = False
        self.is_up = False
        self.ended: str | None = None
        self.why: ZmtpError | TlsError | None = None
        #: Bytes that it has had more than its share of lately; and what a look for signs of life has found.
        self.debt = 0
        self.seen = 0
        self.silent_since = math.inf
        self._flush()

    @property
    def turns(self) -> Turns:
        return self._owner.turns

    @property
    def received(self) -> int:
        """Bytes that have come in all."""
        return self.zmtp.received

    @property
    def layer(self) -> str:
        """Which protocol a handshake is under way in, until the connection is up."""
        return "TLS" if isinstance(self.wire, TlsWire) and not self.wire.is_ready else "ZMTP"

    @property
    def has_heard(self) -> bool:
        """Whether the other side has said anything."""
        return bool(self.zmtp.received) or (isinstance(self.wire, TlsWire) and self.wire.has_heard)

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, frames: Frames) -> None:
        """See :meth:`duplex.transports.Carrier.send`."""
        if self.gone is not None:
            raise CarrierDown(self.gone)
        if len(frames) == 1 and type(frames[0]) is bytes and len(frames[0]) < LARGE:
            data = encode_frame(frames[0])
            if self._unsent is None:
                try:
                    sent = self.wire.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    raise CarrierDown(self._break(_reason(error))) from None
                if sent == len(data):
                    return
                self._keep([data], sent)
            else:
                self._keep([data], 0)
        else:
            self._transmit(encode_message(frames))
        if self.gone is not None:
            raise CarrierDown(self.gone)

    def _transmit(self, buffers: list[bytes | bytearray | memoryview]) -> None:
        sent = 0
        if self._unsent is None:
            total = sum(map(len, buffers))
            try:
                # The kernel takes no more buffers than some; what is left waits for the next time.
                sent = self.wire.sendmsg(buffers[:64])
            except BlockingIOError:
                pass
            except OSError as error:
                self._break(_reason(error))
                return
            if sent == total:
                return
        self._keep(buffers, sent)

    def _keep(self, buffers: list[bytes | bytearray | memoryview] | list[bytes], sent: int) -> None:
        """Keep a message until the stream takes it."""
        if self._unsent is None:
            self._unsent = Unsent()
            self._owner.want_to_write(self)
        self._unsent.add(buffers, sent)
        if self._unsent.messages > MOST_WAITING:
            self._break("the remote end has stopped reading")

    def _break(self, reason: str) -> str:
        """Nothing can be sent any more. What has come is still read, and then the end. Return why."""
        if self.gone is None:
            self.gone = reason
        self._unsent = None
        with contextlib.suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)
        return self.gone

    def write(self) -> bool:
        """The stream takes something again. Tell whether all is written."""
        if self._unsent is None:
            return True
        try:
            if not self._unsent.send(self.wire):
                return False
        except OSError as error:
            self._break(_reason(error))
            return True
        self._unsent = None
        self._flush()
        return self._unsent is None

    def refuse(self, message: bytes) -> bool:
        """Send a last message if the first one that came was too long; tell whether it was."""
        if not self._is_stranger or self.why is None or self.why.kind != "bounds":
            return False
        self._transmit([encode_frame(message)])
        return True

    def take_unsent(self) -> Unsent:
        """Return what was not sent, for somebody else to send it."""
        unsent, self._unsent = self._unsent or Unsent(), None
        return unsent

    def _flush(self) -> None:
        """Send what the protocol has to say. While something waits to be sent, so does this: there is a bound to it."""
        if self._unsent is None and self.gone is None and self.zmtp.has_to_send:
            self._transmit([self.zmtp.data_to_send()])

    # -- receiving -----------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Read once, and deliver messages; tell whether to do so again without waiting. See ``ended``, too."""
        try:
            if self._messages is not None:
                return self._deliver(self._messages)
            if self.zmtp.room() is not None:
                return self._read_on()
            data = self.wire.recv(CHUNK)
            if not data:
                self._end(CLOSED)
                return False
            if self._deliver(self.zmtp.receive(data)):
                return True
            if len(data) < CHUNK or self.is_closed:
                return False
            return self._read_on() if self.zmtp.room() is not None else True
        except BlockingIOError:
            return False
        except (ZmtpError, TlsError) as error:
            # Where it was raised is of no interest, and holds what came.
            self.why = error.with_traceback(None)
            self._end(str(error))
        except OSError as error:
            self._end(_reason(error))
        return False

    def _end(self, reason: str) -> None:
        self.ended = self.gone or reason
        self.gone = self.ended
        self._messages = None
        self.zmtp.forget()

    def _read_on(self) -> bool:
        """Read a large frame into its place."""
        zmtp = self.zmtp
        read = 0
        while read < _LONG_READ:
            room = zmtp.room()
            if room is None:
                return True
            try:
                count = self.wire.recv_into(room)
            except BlockingIOError:
                return False
            del room
            if not count:
                self._end(CLOSED)
                return False
            read += count
            message = zmtp.filled(count)
            if message is not None:
                self._hand_over(message)
                if self.is_closed:
                    return False
        return True

    def _deliver(self, messages: Iterator[Frames]) -> bool:
        """Deliver messages; tell whether some are left for the next turn."""
        deliver = self._owner.receiver.carrier_message
        until = 0.0
        self._messages = messages
        for message in messages:
            if self._is_stranger:
                self._hand_over(message)
            else:
                deliver(self, message)
            if self.is_closed:
                self._messages = None
                return False
            if until == 0.0:
                until = time.monotonic() + LONG_TURN
            elif time.monotonic() >= until:
                return True
        self._messages = None
        if self.zmtp.has_to_send:
            self._flush()
        if not self.is_up and not self.is_accepted and self.zmtp.properties is not None:
            self._announce()
        return False

    def _hand_over(self, message: Frames) -> None:
        """Deliver a message. With the first one the other side is no stranger any more."""
        if self._is_stranger:
            self._is_stranger = False
            self.zmtp.trust()
            self._owner.note_first(self)
            if not self.is_up:
                self._announce()
                if self.is_closed:
                    return
        self._owner.receiver.carrier_message(self, message)

    def _announce(self) -> None:
        self.is_up = True
        self._owner.note_up(self)
        self._owner.receiver.carrier_up(self)

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See :meth:`duplex.transports.Carrier.close`."""
        if not self.is_closed:
            self.forget("the carrier was closed")
            self._owner.note_closed(self)

    def forget(self, reason: str) -> None:
        """Deliver nothing any more, and send nothing but what waits."""
        self.is_closed = True
        self._messages = None
        self.zmtp.forget()
        if self.gone is None:
            self.gone = reason

    def report_end(self) -> None:
        """Tell the receiver that the remote end is gone, if it knows of it."""
        is_known = self.is_up and not self.is_closed
        self.forget(CLOSED)
        if is_known:
            self._owner.receiver.carrier_down(self, self.gone or CLOSED)
