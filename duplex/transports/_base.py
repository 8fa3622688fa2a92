"""The seam between the engine and whatever moves bytes: a few small protocols.

A transport moves **messages**: lists of byte frames, whole, in order, per pair of peers. It knows nothing
of what they mean. The words:

* a **port** is one bound or one connecting socket; exactly one task, :meth:`Port.run`, owns it;
* a **turn** is one look at a socket, which delivers some of what has come. The task that runs the port may have
  another task take the turns (see :meth:`Port.run`). A port may have turns for each of its carriers, or turns that all of
  them share, as its sockets are;
* a **carrier** is one remote end behind a port: the only one of a connecting port, one of many of a bound
  port. A carrier's life ends with :meth:`Receiver.carrier_down`; when the remote end comes back it is a
  *new* carrier, so that nothing silently continues on a connection that was cut.

Everything from the transport to the engine goes through the callbacks of :class:`Receiver`, synchronously,
from the port's own task or from a turn. Everything from the engine to the transport never blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias

from duplex._config import Reconnect
from duplex._errors import BindError
from duplex._identity import Identity
from duplex.transports._tls import TLS

#: What a frame may be. Receivers must not keep a memoryview longer than they need: it may pin a larger buffer.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: A message: frame 0 holds commands, frames 1..n are attachments.
Frames: TypeAlias = Sequence[Buffer]

#: Frames at least this large are worth handing over without a copy (bytes; see docs/design/performance.md).
ZERO_COPY_FROM: Final = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """What the engine asks of every port. Sizes in bytes, times in seconds."""

    #: A longer incoming frame is not delivered; its connection is cut.
    max_frame: int = 17 * 1024 * 1024
    #: A longer incoming message, all its frames together, is not delivered either, where the transport counts; nor is
    #: one of more frames.
    max_message: int = 64 * 1024 * 1024
    max_frames: int = 65_537
    #: Of a bound port: seconds that a remote end has for its first message, and bytes of that, which has one frame; how many
    #: remote ends there may be that have sent none, and how many of them of one address. Where the transport can tell.
    hello_timeout: float = 5.0
    max_hello: int = 64 * 1024
    #: What is sent to a remote end of a bound port whose first message is longer, or has more than one frame, before its
    #: connection ends; nothing if it is empty.
    refusal: bytes = b""
    max_ungreeted: int = 256
    max_ungreeted_per_address: int = 64
    #: Of a bound port that encrypts: handshakes in a second, and how many of them of one address. Who comes beyond that waits.
    max_handshakes: int = 200
    max_handshakes_per_address: int = 50
    #: So many messages of one remote end may wait here for the event loop. A transport that can take no more
    #: hears no signs of life either, and would take a remote end for lost that is waiting.
    receive_queue: int = 300_000
    #: How often the transport itself probes the connection, where it can.
    heartbeat_interval: float = 5.0
    #: A connection silent for this long, from the last sign of life on, is down, where the transport can tell.
    heartbeat_timeout: float = 15.0
    #: A remote end of which nothing has come for this long, though its host answers, is down too, where that can be told apart;
    #: ``None``: never. Remote ends send something in each ``heartbeat_interval``.
    max_silence: float | None = 60.0
    #: The pauses between attempts to connect.
    reconnect: Reconnect = dataclasses.field(default_factory=Reconnect)
    #: How endpoints that encrypt do so, and whom they trust; ``None``: as its defaults say.
    tls: TLS | None = None
    #: Binding may wait, without letting other tasks run, for an endpoint that is likely to be free in a moment; else it
    #: raises :exc:`EndpointBusy`.
    blocking: bool = True


class EndpointBusy(BindError):
    """An endpoint cannot be bound, and perhaps can in a moment."""

    def __init__(self, message: str, patience: float) -> None:
        super().__init__(message)
        #: Seconds for which it makes sense to try again.
        self.patience = patience


class CarrierDown(Exception):
    """A message could not be sent because its carrier is gone, or its remote end has stopped reading."""


class Carrier(Protocol):
    """One remote end. Hashable, and equal only to itself."""

    @property
    def address(self) -> str:
        """Where the remote end is, for logs and error messages; not a key."""

    @property
    def identity(self) -> Identity:
        """Who the remote end is, as far as the connection itself has proved it; ``Identity()`` if it has proved nothing. The
        same for the carrier's life."""

    @property
    def turns(self) -> Turns:
        """The turns in which its messages come; one object for the carrier's life."""

    def send(self, frames: Frames) -> None:
        """Hand one message over, in order, without blocking.

        Attachments of :data:`ZERO_COPY_FROM` bytes or more may be used until they have been transmitted, so
        they must not change; smaller ones are copied. At least one frame is needed (``ValueError``).

        Raises :exc:`CarrierDown`; the port then reports ``carrier_down`` from its own task, so a caller need
        only stop. After a burst of sends call :meth:`Turns.sends_done` once.
        """

    def close(self) -> None:
        """Forget the remote end: no callback mentions this carrier again. Idempotent.

        On a connecting port this ends the present connection. On a bound port what the remote end still sends
        over its connection is dropped: it has to connect anew to be heard again.
        """


class Receiver(Protocol):
    """What the engine gives to a port. The methods must not block, raise or await."""

    def carrier_up(self, carrier: Carrier) -> None:
        """A remote end is there: on a connecting port the connection stands and messages can be sent; on a
        bound port the first message of a remote end has come (``carrier_message`` follows at once, unless
        the carrier is closed from within this callback)."""

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        """One whole message has come. Frame 0 is bytes; attachments of :data:`ZERO_COPY_FROM` bytes or more
        are read without copying and come as memoryviews."""

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        """The remote end is gone; ``reason`` says how that is known. Called once per carrier."""


class Turns(Protocol):
    """The receiving from a socket, step by step, for one task at a time. Hashable, and equal only to itself."""

    @property
    def is_shared(self) -> bool:
        """Whether messages of several carriers may come in them. If not, who waits for an answer of the only carrier may take
        the turns itself."""

    def take(self, *, lazily: bool = False) -> bool:
        """Deliver a bounded part of what has come; tell whether to go on: ``False`` once nothing comes any more.

        Args:
            lazily: there is no need to look whether something is left, since :meth:`sends_done` is going to be
                called before the event loop sleeps.
        """

    async def wait(self) -> None:
        """Return when there may be more to take. After a cancelled wait, begin with :meth:`take`."""

    def sends_done(self) -> None:
        """Note that a burst of sends is over, so that readiness which the sends consumed is not lost. The same
        after turns that were taken lazily.

        May be called from any synchronous code of the trio thread, also from an instrument (so it must
        not reschedule tasks itself: it uses ``run_sync_soon`` of the trio token).
        """

    def probe(self) -> None:
        """Look soon at what the transport knows of the remote ends, which ends a :meth:`wait`. None needs it to
        notice an end that it can notice at all; it sends nothing."""


async def take_turns(turns: Turns) -> None:
    """Receive until nothing comes any more."""
    while turns.take():
        await turns.wait()


#: What takes turns; returns when nothing comes any more in them.
TurnTaker: TypeAlias = Callable[[Turns], Awaitable[None]]


class Port(Protocol):
    """One bound or connecting socket."""

    @property
    def endpoint(self) -> str:
        """The real endpoint, with wildcards resolved."""

    @property
    def last_error(self) -> str | None:
        """Why the latest attempt to connect failed, for error messages; ``None`` if nothing is known."""

    @property
    def attempt(self) -> str | None:
        """How far the attempt to connect has come that is under way, for error messages, such as that the connection was accepted;
        ``None`` if there is none, or nothing is known."""

    async def run(self, taker: TurnTaker = take_turns) -> None:
        """Own the socket: deliver messages and changes to the receiver until :meth:`close`.

        Returns once closed. Cancelling it closes the port.

        Args:
            taker: called with the turns of every socket that the port uses, from a task of the port's: one after the
                other, or at the same time for several sockets. It may leave the turns to other tasks, one at a time, as
                long as it returns when they are over. Only in turns are carriers reported up.
        """

    def close(self, linger: float | None = None) -> None:
        """Close the socket and make :meth:`run` return. Idempotent; no callbacks come after.

        Messages handed over before are still transmitted for up to ``linger`` seconds, by default one. A
        transport may close in the background: its endpoint can be bound again at once, but may go on
        accepting connections for a moment."""


class Transport(Protocol):
    """A family of endpoints."""

    @property
    def schemes(self) -> frozenset[str]:
        """Such as ``{"tcp", "ipc", "inproc"}``."""

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        """Bind at once. Raises ``ConfigurationError`` for a malformed endpoint, ``BindError`` if it cannot
        be bound (in use, no such interface, no permission), both naming it."""

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        """Begin to connect; the connection comes up while :meth:`Port.run` runs, and comes up again after
        a loss. Raises ``ConfigurationError`` for a malformed endpoint."""
