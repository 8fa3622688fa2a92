"""The bound side: one ROUTER socket, one carrier for each remote end that has sent something.

The monitor tells that a connection ended, but not which routing id was behind it; it names the connection's
file descriptor. A message names its descriptor too, so a carrier is tied to a connection when its first
message comes. Descriptors are used again, so ``_Accepted`` objects stand for connections: ``ACCEPTED`` makes
one, ``DISCONNECTED`` ends the newest of its descriptor. All monitor events that precede a message are read
before a carrier is tied, so the newest one is the right one unless two connections came and went on one
descriptor with messages of the first still unread. A carrier tied wrongly in that case belongs to an
ended connection and is tied to a newer one: it lives too long rather than too short, and ends with the
first attempt to send to it.

libzmq keeps the messages of an ended connection readable, so ``carrier_down`` waits for the next
``EAGAIN``; see ``_settle`` for a socket that is never empty.
"""

from __future__ import annotations

import time
from typing import Final

import trio
import zmq

from duplex._errors import BindError
from duplex._identity import ANONYMOUS
from duplex.transports._base import (
    ZERO_COPY_FROM,
    CarrierDown,
    Frames,
    Receiver,
    TransportOptions,
    TurnTaker,
    take_turns,
)
from duplex.transports._endpoint import ZMQ, Endpoint
from duplex.transports._listen import LOCK_PATIENCE, IpcFile, Listener
from duplex.transports._zmq_options import SEND_QUEUE, apply_options
from duplex.transports._zmq_socket import (
    BUSY_TURNS,
    LONG_TURN,
    NOBLOCK,
    NOBLOCK_MORE,
    TURN,
    SocketLoop,
    bind_when_free,
    cause,
    checked,
    new_socket,
    note_unbound,
    sender,
)

_ACCEPTED: Final = int(zmq.EVENT_ACCEPTED)
_DISCONNECTED: Final = int(zmq.EVENT_DISCONNECTED)
_SRCFD: Final = int(zmq.SRCFD)
#: Connections of an inproc port that are remembered for being closed here.
MOST_MUTED: Final = 1024


class RouterPort(SocketLoop):
    """See :class:`Port`."""

    def __init__(self, endpoint: Endpoint, receiver: Receiver, options: TransportOptions) -> None:
        self._inproc = inproc = endpoint.scheme == "inproc"
        self._is_ipc = endpoint.scheme == "ipc"
        try:
            super().__init__(new_socket(zmq.ROUTER), 0 if inproc else _ACCEPTED | _DISCONNECTED)
        except zmq.ZMQError as error:
            raise BindError(f"cannot bind {endpoint}: cannot make a socket: {cause(error)}") from None
        #: Carriers that were closed here and whose connections nobody tells the end of (an ordered set).
        self._muted: dict[_RouterCarrier, None] = {}
        self._receiver = receiver
        self._send = sender(self._socket)
        self._carriers: dict[bytes, _RouterCarrier] = {}
        self._accepted: dict[int, _Accepted] = {}
        self._dying: dict[_RouterCarrier, int] = {}
        self._backlog = options.receive_queue + (SEND_QUEUE if inproc else 0)
        #: How many messages were taken. A turn that left the socket empty counts one more: then nobody asks.
        self._taken = 0
        self._started = False
        self._bound = False
        self._file: IpcFile | None = None
        try:
            apply_options(self._socket, "router", endpoint, options)
            self._endpoint = self._bind(endpoint, blocking=options.blocking)
        except BaseException as error:
            self.stop(0)
            if isinstance(error, (zmq.ZMQError, OSError)):
                raise BindError(f"cannot bind {endpoint}: {cause(error)}") from None
            raise
        self._bound = True

    def _bind(self, endpoint: Endpoint, *, blocking: bool) -> str:
        """Bind, and return the real endpoint."""
        text = str(endpoint)
        if self._inproc:
            bind_when_free(text, lambda: self._socket.bind(text), blocking=blocking)
            return text
        listener = bind_when_free(text, lambda: Listener(endpoint, blocking=blocking), blocking=blocking)
        try:
            self._socket.set(zmq.USE_FD, listener.socket.fileno())
            self._socket.bind(listener.endpoint.plain)
        except BaseException:
            listener.close()
            raise
        listener.socket.detach()  # it is libzmq's now
        self._file = listener.file
        return str(listener.endpoint)

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def last_error(self) -> str | None:
        return None

    @property
    def attempt(self) -> str | None:
        return None

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if self._started:
            raise RuntimeError("run() of a port may be called only once")
        self._started = True
        try:
            await self.serve(taker)
        finally:
            self.close()
            if self._file is not None:
                await self._remove_file(self._file)

    async def _remove_file(self, file: IpcFile) -> None:
        """Wait for a lock, with other tasks running."""
        until = time.monotonic() + LOCK_PATIENCE
        with trio.CancelScope(shield=True):
            while not file.remove(anyway=time.monotonic() >= until):
                await trio.lowlevel.checkpoint()  # whatever clock trio has

    @property
    def is_shared(self) -> bool:
        return True

    def close(self, linger: float | None = None) -> None:
        self.stop(None if linger is None else round(1000 * linger))

    def _after_stop(self) -> None:
        if self._bound:
            note_unbound(self._endpoint)
            if self._file is not None and self._file.remove(anyway=not self._started):
                self._file = None
        for carrier in self._carriers.values():
            carrier.gone = carrier.gone or "the port was closed"
        self._muted.clear()

    def _take_some(self, lazily: bool) -> bool | None:
        recv = self._socket.recv
        carriers = self._carriers
        deliver = self._receiver.carrier_message
        until = 0.0
        taken = 0
        try:
            for taken in range(TURN):
                routing_id = recv(NOBLOCK)
                frame = recv(NOBLOCK, False)
                frames = self._take_message(frame) if frame.more else (frame.bytes,)
                carrier = carriers.get(routing_id)
                if carrier is None:
                    carrier = self._admit(routing_id, frame)
                    if self._stopped:
                        continue  # the receiver has closed the port at once
                if carrier.closed:
                    continue
                deliver(carrier, frames)
                if not taken:
                    if lazily:
                        return None
                    if self._is_empty():
                        return True
                elif taken == 1:
                    self._busy_turns = BUSY_TURNS
                    until = time.monotonic() + LONG_TURN
                elif time.monotonic() >= until:
                    return False
        except zmq.Again:
            return True
        finally:
            self._taken += taken + 1
        return False

    def _has_news(self) -> bool:
        return bool(self._dying)

    def _admit(self, routing_id: bytes, frame: zmq.Frame) -> _RouterCarrier:
        self.read_events()
        carrier = _RouterCarrier(self, routing_id, self._describe(frame))
        self._carriers[routing_id] = carrier
        try:
            accepted = self._accepted.get(frame.get(_SRCFD))
        except zmq.ZMQError:
            accepted = None  # inproc has no descriptors
        if accepted is not None:
            accepted.carrier = carrier
            if accepted.ended:
                self._doom(carrier, _CLOSED)
        self._receiver.carrier_up(carrier)
        return carrier

    def _describe(self, frame: zmq.Frame) -> str:
        try:
            peer = str(frame.get("Peer-Address"))
        except zmq.ZMQError:
            return self._endpoint
        if not self._is_ipc:
            peer = peer.removeprefix("::ffff:")  # an IPv4 address, seen by a socket for both families
            return f"{ZMQ}tcp://[{peer}]" if ":" in peer else f"{ZMQ}tcp://{peer}"
        _, _, pid = peer.rpartition(":")
        return f"{self._endpoint} (pid {pid})"

    def _on_event(self, event: int, value: int) -> None:
        if event == _ACCEPTED:
            self._accepted[value] = _Accepted()
            return
        accepted = self._accepted.setdefault(value, _Accepted())
        accepted.ended = True
        if accepted.carrier is not None:
            self._doom(accepted.carrier, _CLOSED)

    def _doom(self, carrier: _RouterCarrier, reason: str) -> None:
        """Make a carrier refuse to send, and report it down when its last messages have been delivered, or
        forget it if it was closed here."""
        if carrier.gone is None or (carrier.closed and carrier not in self._dying):
            carrier.gone = reason
            self._dying[carrier] = self._taken + self._backlog * len(self._carriers)
            self.wake()

    def _settle(self, drained: bool) -> None:
        """Report the carriers that are down: at ``EAGAIN``, as then all their messages are delivered.

        Under a load that never lets the socket run empty, they are reported once every carrier's whole
        backlog could have been delivered; libzmq serves remote ends in turn, so theirs then was.
        """
        if self._dying:
            for carrier, latest in list(self._dying.items()):
                # The receiver may close carriers, or the port, from within these callbacks.
                if (drained or self._taken > latest) and carrier in self._dying and not self._stopped:
                    self.forget(carrier)
                    if not carrier.closed:
                        self._receiver.carrier_down(carrier, carrier.gone or _CLOSED)

    def _broken(self, reason: str) -> None:
        while self._carriers and not self._stopped:
            carrier = next(iter(self._carriers.values()))
            carrier.gone = carrier.gone or reason
            self.forget(carrier)
            if not carrier.closed:
                self._receiver.carrier_down(carrier, reason)

    def mute(self, carrier: _RouterCarrier) -> None:
        """Take no more messages of a carrier's connection. Its end is what takes the carrier out of the books;
        on inproc, where nobody tells of it, the oldest of many are taken out."""
        if self._inproc:
            self._muted[carrier] = None
            if len(self._muted) > MOST_MUTED:
                self.forget(next(iter(self._muted)))

    def forget(self, carrier: _RouterCarrier) -> None:
        """Take a carrier out of the books."""
        self._dying.pop(carrier, None)
        self._muted.pop(carrier, None)
        if self._carriers.get(carrier.routing_id) is carrier:
            del self._carriers[carrier.routing_id]

    def send(self, carrier: _RouterCarrier, frames: Frames) -> None:
        """See :meth:`Carrier.send`."""
        send = self._send
        try:
            if len(frames) == 1 and type(frames[0]) is bytes and len(frames[0]) < ZERO_COPY_FROM:
                send(carrier.routing_id, NOBLOCK_MORE)
                send(frames[0], NOBLOCK)
                return
            *heads, (last, copy_last) = checked(frames)
            send(carrier.routing_id, NOBLOCK_MORE)
            for frame, copy in heads:
                send(frame, NOBLOCK_MORE, copy)
            send(last, NOBLOCK, copy_last)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                reason = _CLOSED
            elif error.errno == zmq.EAGAIN:
                reason = "the remote end has stopped reading"
            else:
                reason = f"the socket failed: {cause(error)}"
            self._doom(carrier, reason)
            raise CarrierDown(reason) from None


_CLOSED: Final = "the connection was closed or lost"


class _Accepted:
    """One accepted connection."""

    __slots__ = ("carrier", "ended")

    def __init__(self) -> None:
        self.carrier: _RouterCarrier | None = None
        self.ended = False


class _RouterCarrier:
    """One remote end of a bound port."""

    __slots__ = ("__weakref__", "_port", "address", "closed", "gone", "routing_id")

    identity: Final = ANONYMOUS

    def __init__(self, port: RouterPort, routing_id: bytes, address: str) -> None:
        self._port = port
        self.routing_id = routing_id
        self.address = address
        #: Why nothing can be sent any more.
        self.gone: str | None = None
        #: The receiver has closed it, and hears no more of its connection.
        self.closed = False

    @property
    def turns(self) -> RouterPort:
        return self._port

    def send(self, frames: Frames) -> None:
        if self.gone is not None:
            raise CarrierDown(self.gone)
        self._port.send(self, frames)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self.gone is None:
                self.gone = "the carrier was closed"
            self._port.mute(self)
