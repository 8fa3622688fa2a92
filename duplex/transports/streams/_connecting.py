"""The connecting side: one connection after the other, each a carrier with turns of its own."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from typing import Final, final

import trio

from duplex.transports._backoff import Backoff
from duplex.transports._base import Receiver, TransportOptions, TurnTaker, take_turns
from duplex.transports._endpoint import Endpoint
from duplex.transports.streams._connection import Connection, bounds_of
from duplex.transports.streams._contexts import contexts_of
from duplex.transports.streams._dialing import DialError, Target, dial, targets_of
from duplex.transports.streams._farewell import LINGER, Farewell, end
from duplex.transports.streams._liveness import LifeWatch
from duplex.transports.streams._lookout import get_lookout
from duplex.transports.streams._pool import get_pool
from duplex.transports.streams._sockets import Wire, own, prepare, time_now
from duplex.transports.streams._waiting import Waiting
from duplex.transports.zmtp import Null, ZmtpConnection

#: Seconds for one ZMTP handshake: something that accepts but does not speak ZMTP is left.
HANDSHAKE: Final = 10.0


@final
class ConnectingPort:
    """See :class:`duplex.transports.Port`. One carrier at a time."""

    def __init__(self, endpoint: Endpoint, receiver: Receiver, options: TransportOptions) -> None:
        self._target = endpoint
        self.receiver = receiver
        self.options = options
        self._last_error: str | None = None
        self._turns: ConnectionTurns | None = None
        #: Where that leads, or is to lead if it is not there yet.
        self._tried: Target | None = None
        #: Looks for signs of life of the other side, once the connection is up; and until when that has to be.
        self._watch: LifeWatch | None = None
        self._up_until = 0.0
        #: Sockets that are not closed yet, since the other side has perhaps not got everything.
        self._parting: set[Wire] = set()
        self.home: trio.Nursery | None = None
        self._pid = os.getpid()
        self._started = False
        self._closed = False
        self._linger = LINGER
        self._contexts = contexts_of(options.tls) if endpoint.scheme == "tls" else None
        if self._contexts is not None:
            self._contexts.client()  # what cannot be read is told now
        own(self)

    @property
    def endpoint(self) -> str:
        return str(self._target)

    def secured(self, wire: socket.socket) -> Wire:
        """Return what is sent to and received from in the place of a connected socket."""
        return wire if self._contexts is None else self._contexts.secured(wire, self._target.host)

    @property
    def last_error(self) -> str | None:
        return self._last_error

    @property
    def attempt(self) -> str | None:
        if self._tried is None:
            return None
        if self._turns is None:
            return f"{self._tried.text} has not accepted the connection yet"
        connection = self._turns.connection
        return None if connection.is_up else _why_not_up(connection, self._tried)

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if self._started:
            raise RuntimeError("run() of a port may be called only once")
        self._started = True
        try:
            if not self._closed:
                async with trio.open_nursery() as self.home:
                    await self._keep_connected(taker)
        finally:
            self.close()

    async def _keep_connected(self, taker: TurnTaker) -> None:
        backoff = Backoff(self.options.reconnect)
        while True:
            stood = await self._attempt(taker)
            await trio.sleep(backoff.pause(stood))

    async def _attempt(self, taker: TurnTaker) -> float:
        """Try every address once, and serve the first connection until it ends. Return for how many seconds it stood."""
        try:
            targets = await targets_of(self._target)
        except OSError as error:
            self._last_error = f"cannot resolve {self._target.host!r}: {error.strerror or error}"
            return 0.0
        try:
            for target in targets:
                self._tried = target
                try:
                    wire = await dial(target)
                except DialError as error:
                    self._last_error = str(error)
                    continue
                began = trio.current_time()
                if await self._serve(wire, target, taker):
                    return trio.current_time() - began
        finally:
            self._tried = None
        return 0.0

    async def _serve(self, wire: socket.socket, target: Target, taker: TurnTaker) -> bool:
        """Serve a connection until it ends; tell whether it came up."""
        try:
            self._turns = turns = ConnectionTurns(self, wire)
        except OSError as error:
            wire.close()
            self._last_error = (
                f"{target.text} accepted the connection, and ended it: {error.strerror or error}"
            )
            return False
        connection = turns.connection
        lookout = get_lookout()
        self._watch = None
        self._up_until = trio.current_time() + HANDSHAKE
        lookout.add(self, self._up_until)
        try:
            await taker(turns)
            if not connection.is_up:
                self._last_error = _why_not_up(connection, target)
        finally:
            lookout.remove(self)
            self._turns = None
            turns.stop_writing()
            connection.forget("the port was closed")
            self._part(connection)
        return connection.is_up

    def is_at(self, turns: ConnectionTurns) -> bool:
        """Whether it has that connection at present."""
        return self._turns is turns

    def came_up(self) -> None:
        """The connection stands."""
        self._last_error = None
        now = trio.current_time()
        self._watch = LifeWatch(self.options, now)
        get_lookout().add(self, now + self.options.heartbeat_interval)

    def look(self, now: float) -> float:
        """See :class:`Connected`: end a connection that does not come up, or whose host is gone."""
        turns = self._turns
        if turns is None:
            return math.inf
        lost, pause = None, self._up_until - now
        if self._watch is not None:
            self._watch.begin(now)
            lost, pause = self._watch.look(turns.connection, now)
        if lost is None and pause > 0:
            return now + pause
        turns.end(lost)
        return math.inf

    # -- the end -------------------------------------------------------------------------------------------

    def _part(self, connection: Connection) -> None:
        """Close a connection's socket once the other side has what was sent."""
        if connection.ended is not None:
            end(connection.wire)
            return
        farewell = Farewell(connection.wire, connection.take_unsent(), time_now() + self._linger)
        if farewell.go_on() or self.home is None:
            end(connection.wire)
        else:
            self._parting.add(farewell.wire)
            self.home.start_soon(self._finish, farewell)

    async def _finish(self, farewell: Farewell) -> None:
        """Let the other side get everything, also if this port is closed meanwhile."""
        wire = farewell.wire
        try:
            with trio.CancelScope(shield=True, deadline=farewell.until):
                while not farewell.go_on():
                    if farewell.wants_to_write:
                        await trio.lowlevel.wait_writable(wire)
                    else:
                        await trio.lowlevel.wait_readable(wire)
        finally:
            self._parting.discard(wire)
            end(wire)

    def close(self, linger: float | None = None) -> None:
        if self._closed:
            return
        self._closed = True
        if linger is not None:
            self._linger = linger
        if self._pid != os.getpid():
            return  # a forked child has closed what it has of it
        if self._turns is not None:
            self._turns.connection.forget("the port was closed")
            self._turns.leave()
        if self.home is not None:
            with contextlib.suppress(RuntimeError):  # the event loop is gone
                self.home.cancel_scope.cancel()

    def disown(self) -> None:
        """See :class:`Owner`."""
        if self._turns is not None:
            self._turns.connection.wire.close()
        for wire in self._parting:
            wire.close()


def _why_not_up(connection: Connection, target: Target) -> str:
    """Return what is known of a connection that has not come up, or not yet."""
    accepted = f"{target.text} accepted the connection, but"
    if connection.why is not None:
        return f"{accepted}: {connection.why}"
    if connection.ended is not None:
        return f"{accepted} ended it during the handshake of {connection.layer}"
    if not connection.has_heard:
        return f"{accepted} is silent"
    return f"{accepted} has not completed the handshake of {connection.layer}"


@final
class ConnectionTurns:
    """The turns of one connection."""

    def __init__(self, port: ConnectingPort, wire: socket.socket) -> None:
        self._port = port
        self.receiver = port.receiver
        self._writing: trio.CancelScope | None = None
        self._waiting = Waiting()
        #: There is more to take, for which nothing has to be waited.
        self._is_ready = False
        options = port.options
        prepare(wire, options.heartbeat_timeout)
        before, after = bounds_of(options, is_accepted=False)
        zmtp = ZmtpConnection(
            socket_type="DEALER", mechanism=Null(), before=before, after=after, allocate=get_pool().get
        )
        self.connection = Connection(self, port.secured(wire), port.endpoint, zmtp, is_accepted=False)

    # -- for those who take them ---------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        return False

    def take(self, *, lazily: bool = False) -> bool:
        """See :meth:`Turns.take`."""
        connection = self.connection
        if connection.is_closed:
            return False
        self._waiting.begin()
        self._is_ready = connection.take()
        if connection.ended is not None:
            connection.report_end()
        return not connection.is_closed

    async def wait(self) -> None:
        """See :meth:`Turns.wait`."""
        if self._is_ready or self.connection.is_closed:
            await trio.lowlevel.checkpoint()
        else:
            await self._waiting.wait(self.connection.wire.fileno())

    def sends_done(self) -> None:
        """Nothing to do: a send takes no readiness away."""

    def probe(self) -> None:
        """See :meth:`Turns.probe`."""
        self._waiting.wake()

    def leave(self) -> None:
        """Have who waits find out that it is over."""
        self._waiting.leave()

    # -- for the connection --------------------------------------------------------------------------------

    @property
    def turns(self) -> ConnectionTurns:
        """See :class:`ConnectionOwner`."""
        return self

    def note_up(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        self._port.came_up()

    def note_first(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""

    def note_closed(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        self._waiting.leave()

    def want_to_write(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        if self._port.is_at(self):
            trio.lowlevel.current_trio_token().run_sync_soon(self._start_writing)

    def _start_writing(self) -> None:
        home = self._port.home
        # What is written already may be followed by an answer that the stream does not take: one task writes that, too.
        if (
            self._writing is None
            and home is not None
            and self._port.is_at(self)
            and not self.connection.is_closed
        ):
            self._writing = trio.CancelScope()
            home.start_soon(self._write, self._writing)

    async def _write(self, scope: trio.CancelScope) -> None:
        """Write what the stream did not take, as soon as it does."""
        with scope:
            while not self.connection.is_closed and not self.connection.write():
                # Who is woken from the wait for what comes (see Waiting) is not alone: all that wait for the descriptor are.
                with contextlib.suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(self.connection.wire)
        self._writing = None

    def stop_writing(self) -> None:
        """Leave what was not written to others."""
        if self._writing is not None:
            self._writing.cancel()

    def end(self, lost: str | None) -> None:
        """End the connection, as it is lost; or as it has not come up."""
        connection = self.connection
        if lost is None:
            connection.forget("the handshake took too long")
        else:
            connection.gone = connection.ended = connection.gone or lost
            connection.report_end()
        self._waiting.leave()
