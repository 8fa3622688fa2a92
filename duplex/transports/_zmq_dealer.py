"""The connecting side: a fresh DEALER socket for every connection.

libzmq would reconnect by itself, but on the same socket: what was queued for the old connection goes to the
new one, and what arrived on the old one cannot be told from the new. Calls must never silently continue
after a cut, so a socket here lives as long as its one connection, and the port tries again with another.
It follows that

* a message and the event of its connection cannot be out of step: the first message proves that the
  connection stands as well as the monitor's ``HANDSHAKE_SUCCEEDED`` does, whichever is seen first;
* ``DISCONNECTED`` is reported by libzmq after the connection's last message, so the carrier is declared
  down at the next ``EAGAIN``, and nothing that arrived is lost;
* names are resolved anew for each attempt, by trio, not by libzmq's I/O thread, which would stand still
  for every socket of the process meanwhile.
"""

from __future__ import annotations

import math
import os
import socket as stdlib_socket
import time
from typing import Final

import trio
import zmq

from duplex._identity import ANONYMOUS
from duplex.transports._backoff import Backoff
from duplex.transports._base import (
    ZERO_COPY_FROM,
    CarrierDown,
    Frames,
    Receiver,
    TransportOptions,
    TurnTaker,
    take_turns,
)
from duplex.transports._endpoint import Endpoint
from duplex.transports._listen import tcp_endpoint
from duplex.transports._zmq_options import CONNECT_TIMEOUT_MS, HANDSHAKE_MS, apply_options
from duplex.transports._zmq_socket import (
    BUSY_TURNS,
    LONG_TURN,
    NOBLOCK,
    NOBLOCK_MORE,
    TURN,
    SocketLoop,
    cause,
    checked,
    new_socket,
    sender,
)

_UP: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DOWN: Final = int(zmq.EVENT_DISCONNECTED)
_NOT_ACCEPTED: Final = int(zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED)
_REFUSALS: Final = {
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "the connection ended during the ZMTP handshake",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "the remote end does not speak ZMTP as expected",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "the remote end refused the credentials",
}
_EVENTS: Final = _UP | _DOWN | _NOT_ACCEPTED | sum(_REFUSALS)


class DealerPort:
    """See :class:`Port`. One carrier at a time."""

    def __init__(self, endpoint: Endpoint, receiver: Receiver, options: TransportOptions) -> None:
        self._target = endpoint
        self._receiver = receiver
        self._options = options
        self._last_error: str | None = None
        self._connection: _Connection | None = None
        self._scope = trio.CancelScope()
        self._started = False
        self._closed = False

    @property
    def endpoint(self) -> str:
        return str(self._target)

    @property
    def last_error(self) -> str | None:
        return self._last_error

    @property
    def attempt(self) -> str | None:
        connection = self._connection
        if connection is None or connection.up_since is not None or self._last_error is not None:
            return None
        return f"there is no ZMTP handshake with {connection.target} so far: it does not accept the connection, or is silent"

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if self._started:
            raise RuntimeError("run() of a port may be called only once")
        self._started = True
        try:
            if not self._closed:
                with self._scope:
                    await self._keep_connected(taker)
        finally:
            self.close()

    async def _keep_connected(self, taker: TurnTaker) -> None:
        backoff = Backoff(self._options.reconnect)
        while True:
            stood = await self._attempt(taker)
            await trio.sleep(backoff.pause(stood))

    async def _attempt(self, taker: TurnTaker) -> float:
        """Try every address once, and serve the first connection until it ends. Return for how many seconds it stood."""
        try:
            addresses = await self._resolve()
        except OSError as error:
            self._last_error = f"cannot resolve {self._target.host!r}: {error.strerror or error}"
            return 0.0
        for address in addresses:
            try:
                connection = _Connection(self, address)
            except zmq.ZMQError as error:
                self._last_error = f"cannot make a socket: {cause(error)}"
                return 0.0
            self._connection = connection
            try:
                await connection.serve(taker)
                if connection.timed_out:
                    self._last_error = (
                        f"{address} accepted the connection but did not complete a ZMTP handshake"
                    )
            finally:
                # Cut short by a cancellation, what was handed over is still transmitted.
                connection.stop()
            if connection.up_since is not None:
                return trio.current_time() - connection.up_since
        return 0.0

    async def _resolve(self) -> list[Endpoint]:
        target = self._target
        if target.scheme != "tcp":
            return [target]
        # As bytes, as the interface in an IPv6 address is no name that could be encoded as those of hosts are.
        host = os.fsencode(target.host)
        found = await trio.socket.getaddrinfo(host, target.port, type=stdlib_socket.SOCK_STREAM)
        return list(dict.fromkeys(tcp_endpoint(entry[4], target) for entry in found))

    def close(self, linger: float | None = None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._connection is not None:
            self._connection.stop(None if linger is None else round(1000 * linger))
        self._scope.cancel()


class _Connection(SocketLoop):
    """A carrier, its socket and its turns."""

    identity: Final = ANONYMOUS

    def __init__(self, port: DealerPort, address: Endpoint) -> None:
        # There is nothing to watch on inproc: it has no connections that could fail or be reported.
        self._up = address.scheme == "inproc"
        super().__init__(new_socket(zmq.DEALER), 0 if self._up else _EVENTS)
        self._port = port
        self.target = address
        self._receiver = port._receiver
        self._send = sender(self._socket)
        #: Since when the connection stands, or did.
        self.up_since: float | None = None
        self._gone: str | None = None
        self._refusal: str | None = None
        try:
            apply_options(self._socket, "dealer", address, port._options)
            self._socket.connect(address.plain)
        except BaseException:
            self.stop(0)
            raise

    @property
    def address(self) -> str:
        return self._port.endpoint

    @property
    def turns(self) -> _Connection:
        return self

    @property
    def is_shared(self) -> bool:
        return False

    async def serve(self, taker: TurnTaker) -> None:
        # libzmq's own handshake limit misses whatever it takes for a ZMTP of before 2011, such as a greeting
        # of SMTP or SSH, and it reports nothing of these either.
        self._scope.deadline = trio.current_time() + (CONNECT_TIMEOUT_MS + HANDSHAKE_MS) / 1000
        await super().serve(taker)

    @property
    def timed_out(self) -> bool:
        """Whether :meth:`serve` returned because the connection did not come up in time."""
        return self._scope.cancelled_caught and not self.stopped

    def send(self, frames: Frames) -> None:
        if self._gone is not None:
            raise CarrierDown(self._gone)
        try:
            if len(frames) == 1 and type(frames[0]) is bytes and len(frames[0]) < ZERO_COPY_FROM:
                self._send(frames[0], NOBLOCK)
                return
            *heads, (last, copy_last) = checked(frames)
            for frame, copy in heads:
                self._send(frame, NOBLOCK_MORE, copy)
            self._send(last, NOBLOCK, copy_last)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:
                self._gone = "the remote end has stopped reading, or its inproc endpoint was closed"
            else:
                self._gone = f"the socket failed: {cause(error)}"
            self.wake()
            raise CarrierDown(self._gone) from None

    def close(self) -> None:
        """End this connection; the port then makes a new one."""
        self.stop()

    def stop(self, linger: int | None = None) -> None:
        if self._gone is None:
            self._gone = "the carrier was closed"
        super().stop(linger)

    def _take_some(self, lazily: bool) -> bool | None:
        recv = self._socket.recv
        deliver = self._receiver.carrier_message
        until = 0.0
        try:
            for taken in range(TURN):
                frame = recv(NOBLOCK, False)
                if self.up_since is None:
                    self._announce()
                    if self._stopped:
                        break  # the receiver has closed the port, or the carrier, at once
                deliver(self, self._take_message(frame) if frame.more else (frame.bytes,))
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
        return False

    def _has_news(self) -> bool:
        return self._gone is not None

    def _announce(self) -> None:
        self.up_since = trio.current_time()
        self._scope.deadline = math.inf
        self._port._last_error = None
        self._receiver.carrier_up(self)

    def _settle(self, drained: bool) -> None:
        if self._up and self.up_since is None:
            self._announce()
        if drained and self._gone is not None and not self.stopped:
            self._end(self._gone)
            self.stop(0)

    def _end(self, reason: str) -> None:
        if self.up_since is not None:
            self._receiver.carrier_down(self, reason)
        else:
            self._port._last_error = reason

    def _broken(self, reason: str) -> None:
        self._gone = reason
        self._end(reason)
        self._port.close()

    def _on_event(self, event: int, value: int) -> None:
        if event == _UP:
            self._up = True
        elif event in _REFUSALS:
            self._refusal = _REFUSALS[event]
        elif self._gone is not None:
            pass  # CONNECT_RETRIED follows DISCONNECTED and CLOSED, and adds nothing
        elif event == _DOWN:
            if self._up or self.up_since is not None:
                self._gone = "the connection was closed or lost"
            else:
                self._gone = self._refusal or "the connection ended during the ZMTP handshake"
        else:
            self._gone = self._why_not_accepted()

    def _why_not_accepted(self) -> str:
        """The monitor does not carry the error of a failed attempt, so this says what can be known."""
        target = self.target
        if target.scheme == "ipc":
            if target.name.startswith("@") or os.path.exists(target.name):
                return f"nothing accepts connections at {target}"
            return f"{target.name} does not exist: nothing is bound there"
        return (
            f"{target} did not accept the connection: it was refused (nothing listens there), there is no "
            f"route to it, or it did not answer within {CONNECT_TIMEOUT_MS / 1000:g} s"
        )
