"""The bound side: one listener, and all that has connected to it."""

# One wait for all
# ================
#
# All sockets of a port are in an epoll of its own, and the port waits for that one's descriptor. A connection that is idle costs no
# task and no system call, and a message costs one wait however many connections there are.
#
# Fairness is counted in bytes. The kernel tells of those that have something in turn. In each turn every one of them is read from
# once, so one that sends much cannot keep others from being read. But a connection with a large frame under way may have
# a megabyte in its turn, as smaller pieces cost too much, and others 64 KiB. What it has had more than those is its debt: while others
# have something too, it is passed over until that is paid off.

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import Any, Final, final

import trio

from duplex._errors import BindError
from duplex.transports._base import EndpointBusy, Receiver, TransportOptions, TurnTaker, take_turns
from duplex.transports._endpoint import Endpoint
from duplex.transports._listen import LOCK_PATIENCE, IpcFile, Listener, cause
from duplex.transports.streams._accepting import PAUSE, Acceptor
from duplex.transports.streams._complaints import Complaints
from duplex.transports.streams._connection import CHUNK, LONG_TURN, Connection, bounds_of
from duplex.transports.streams._contexts import contexts_of
from duplex.transports.streams._farewell import LINGER, Farewell, end
from duplex.transports.streams._handshakes import Handshakes
from duplex.transports.streams._liveness import LifeWatch
from duplex.transports.streams._pool import get_pool
from duplex.transports.streams._sockets import describe, own, prepare, time_now
from duplex.transports.streams._strangers import Strangers
from duplex.transports.streams._waiting import Waiting
from duplex.transports.zmtp import Null, ZmtpConnection

#: Connections that were ended here whose other sides have not ended them yet.
_MOST_FAREWELLS: Final = 64
#: Bytes that are heard of those who have sent too much before they were known, so that they learn why they are refused.
_MOST_HEARD: Final = 1024 * 1024
#: Sockets that are looked at in one turn.
_AT_ONCE: Final = 64


# Large because it is where all sockets of a port meet: the listener, those that are new, in use, and ending.
@final
class BoundPort:
    """See :class:`duplex.transports.Port`; it is also the turns that all its carriers share."""

    def __init__(self, endpoint: Endpoint, receiver: Receiver, options: TransportOptions) -> None:
        self.receiver = receiver
        self._options = options
        self._bounds = bounds_of(options, is_accepted=True)
        self._contexts = contexts_of(options.tls) if endpoint.scheme == "tls" else None
        if self._contexts is not None:
            self._contexts.server()  # what cannot be read, or is missing, is told now
        self._waiting = Waiting()
        listener = _listen(endpoint, options)
        try:
            self._epoll = select.epoll()
        except OSError as error:
            listener.close()
            raise BindError(f"cannot bind {endpoint}: {cause(error)}") from None
        self._endpoint = listener.endpoint
        self._file: IpcFile | None = listener.file
        self._listener = listener.socket.fileno()
        self._acceptor = Acceptor(listener.socket, self._make_room)
        self._pid = os.getpid()
        own(self)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        #: Those whose handshake of TLS has not begun.
        self._newcomers: dict[int, Connection] = {}
        self._handshakes: Handshakes[Connection] = Handshakes(
            options.max_handshakes, options.max_handshakes_per_address, trio.current_time()
        )
        #: Those that have something to be read, in the order of their turns (an ordered set).
        self._ready: dict[Connection, None] = {}
        self._strangers: Strangers[Connection] = Strangers(
            options.max_ungreeted, options.max_ungreeted_per_address, options.hello_timeout
        )
        #: Strangers whose time is over, who are looked at once more: what they said may have come while this side was busy.
        self._last_looks: set[Connection] = set()
        self._farewells: dict[int, Farewell] = {}
        self._complaints = Complaints()
        self._paused_until: float | None = None
        self._started = False
        self._closed = False
        self._linger_until = 0.0
        #: In which the house is at rest.
        self._resting = trio.CancelScope()

    @property
    def endpoint(self) -> str:
        return str(self._endpoint)

    @property
    def last_error(self) -> str | None:
        return None

    @property
    def attempt(self) -> str | None:
        return None

    @property
    def turns(self) -> BoundPort:
        """See :class:`ConnectionOwner`."""
        return self

    @property
    def is_shared(self) -> bool:
        return True

    def sends_done(self) -> None:
        """Nothing to do: a send takes no readiness away."""

    def probe(self) -> None:
        """See :meth:`Turns.probe`."""
        self._waiting.wake()

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if self._started:
            raise RuntimeError("run() of a port may be called only once")
        self._started = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_house)
                await taker(self)
                nursery.cancel_scope.cancel()
        finally:
            self.close()
            await self._finish()

    # -- turns ---------------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """See :meth:`Turns.wait`."""
        if self._closed or self._ready:
            await trio.lowlevel.checkpoint()
        else:
            await self._waiting.wait(self._epoll.fileno())

    def take(self, *, lazily: bool = False) -> bool:
        """See :meth:`Turns.take`."""
        if self._closed:
            return False
        self._waiting.begin()
        ready = self._ready
        for fd, events in self._epoll.poll(0, _AT_ONCE):
            connection = self._connections.get(fd)
            if connection is None:
                self._look_at(fd)
                continue
            if events & select.EPOLLOUT and connection.write():
                self._epoll.modify(fd, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                ready[connection] = None
        if ready:
            is_alone = len(ready) == 1
            until = time.monotonic() + LONG_TURN
            for connection in list(ready):
                self._serve(connection, is_alone=is_alone)
                if time.monotonic() >= until:
                    break
        return not self._is_closed()

    def _is_closed(self) -> bool:
        """Whether a receiver has closed the port, in a turn."""
        return self._closed

    def _serve(self, connection: Connection, *, is_alone: bool) -> None:
        """Give a connection its turn, if it has not had more than its share while there are others."""
        ready = self._ready
        if ready.pop(connection, self) is self:
            return  # it was closed by what another one's message has led to
        if connection.debt:
            connection.debt = 0 if is_alone else max(0, connection.debt - CHUNK)
            if connection.debt:
                ready[connection] = None
                return
        before = connection.zmtp.received
        if connection.take():
            ready[connection] = None
        connection.debt = max(0, connection.zmtp.received - before - CHUNK)
        if connection.ended is not None:
            self._end(connection)
        elif connection in self._last_looks:
            self._last_looks.discard(connection)
            if not connection.is_up and not connection.is_closed:
                self._cut(connection, f"sent nothing within {self._options.hello_timeout:g} s")

    def _look_at(self, fd: int) -> None:
        """Look at what is no connection in use."""
        if fd == self._listener:
            self._accept()
            return
        newcomer = self._newcomers.get(fd)
        if newcomer is not None:
            self._meet(newcomer)
        elif fd in self._farewells:
            self._go_on(fd)

    def _meet(self, connection: Connection) -> None:
        """One whose handshake has not begun has said something: let it begin, or wait unread."""
        fd, now = connection.wire.fileno(), trio.current_time()
        if self._handshakes.is_waiting(connection):
            # Nothing else is told of one that waits.
            self._cut(connection, "has ended the connection")
        elif self._handshakes.begin(connection, now):
            self._let_in(connection)
            self._ready[connection] = None
        else:
            self._epoll.modify(fd, 0)
            self._resting.deadline = min(self._resting.deadline, self._handshakes.next_due(now) or now)

    def _let_in(self, connection: Connection) -> None:
        fd = connection.wire.fileno()
        self._connections[fd] = self._newcomers.pop(fd)
        self._epoll.modify(fd, select.EPOLLIN)

    # -- connections ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        accepted, is_short = self._acceptor.accept()
        for wire, address in accepted:
            try:
                self._add(wire, address)
            except OSError:
                wire.close()  # it is over already
        now = trio.current_time()
        if self._acceptor.refused:
            refused, self._acceptor.refused = self._acceptor.refused, 0
            self._complain("descriptors", f"no descriptor is left: {refused} connections were refused", now)
        if is_short:
            self._complain("descriptors", f"no descriptor is left: nobody is let in for {PAUSE:g} s", now)
            self._epoll.unregister(self._listener)
            self._paused_until = now + PAUSE

    def _make_room(self) -> bool:
        """See :class:`Acceptor`."""
        if self._farewells:
            self._end_farewell(next(iter(self._farewells)))
            return True
        loser = self._strangers.loser()
        if loser is not None:
            self._strangers.remove(loser)
            self._cut(loser, "gave way to another one, as no descriptor was left")
        return loser is not None

    def _add(self, wire: socket.socket, address: Any) -> None:
        options = self._options
        prepare(wire, options.heartbeat_timeout)
        before, after = self._bounds
        zmtp = ZmtpConnection(
            socket_type="ROUTER", mechanism=Null(), before=before, after=after, allocate=get_pool().get
        )
        secured = wire if self._contexts is None else self._contexts.accepted(wire)
        connection = Connection(
            self, secured, describe(wire, address, self._endpoint), zmtp, is_accepted=True
        )
        # First, as the kernel may refuse it.
        self._epoll.register(wire.fileno(), select.EPOLLIN)
        host = None if wire.family == socket.AF_UNIX else str(address[0])
        loser = self._strangers.add(connection, host, trio.current_time())
        if loser is not None:
            self._cut(loser, "gave way to another one, as too many had connected and sent nothing")
        if self._contexts is None:
            self._connections[wire.fileno()] = connection
        else:
            self._newcomers[wire.fileno()] = connection
            self._handshakes.note(connection, str(address[0]))

    def want_to_write(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        fd = connection.wire.fileno()
        if fd in self._connections:
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def note_up(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""

    def note_first(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        self._strangers.remove(connection)

    def note_closed(self, connection: Connection) -> None:
        """See :class:`ConnectionOwner`."""
        if self._remove(connection):
            self._part(connection, trio.current_time() + LINGER, waits=True)

    def _remove(self, connection: Connection) -> bool:
        """Take a connection out of the books; tell whether it was there."""
        self._ready.pop(connection, None)
        self._strangers.remove(connection)
        self._handshakes.remove(connection)
        self._last_looks.discard(connection)
        fd = connection.wire.fileno()
        if self._connections.pop(fd, None) is None and self._newcomers.pop(fd, None) is None:
            return False
        # To close the socket is not enough as long as a forked child has it.
        self._epoll.unregister(fd)
        return True

    def _part(self, connection: Connection, until: float, *, waits: bool, hears: int | None = None) -> None:
        """Close a socket once the other side has what was sent; if it ``waits``, once that one has closed its own."""
        if waits and len(self._farewells) >= _MOST_FAREWELLS:
            self._end_farewell(next(iter(self._farewells)))
        fd = connection.wire.fileno()
        self._epoll.register(fd, 0)
        self._farewells[fd] = Farewell(
            connection.wire, connection.take_unsent(), until, waits=waits, hears=hears
        )
        self._go_on(fd)

    def _go_on(self, fd: int) -> None:
        """Do what is left to do before a socket is closed."""
        farewell = self._farewells[fd]
        if farewell.go_on():
            self._end_farewell(fd)
        else:
            # What comes is thrown away once all is sent. Until then it would only be told of, again and again.
            self._epoll.modify(fd, select.EPOLLOUT if farewell.wants_to_write else select.EPOLLIN)

    def _end_farewell(self, fd: int) -> None:
        farewell = self._farewells.pop(fd)
        self._epoll.unregister(fd)
        end(farewell.wire)

    def _end(self, connection: Connection) -> None:
        """A connection is over."""
        why = connection.why
        if why is not None:
            self._complain(why.kind, f"{connection.address} was cut: {why}", trio.current_time())
        if self._remove(connection):
            refusal = self._options.refusal
            if (refusal and connection.refuse(refusal)) or (why is not None and why.kind == "tls"):
                # What has come and is not read would reset the connection, and the refusal, or TLS's alert, with it.
                self._part(connection, trio.current_time() + LINGER, waits=True, hears=_MOST_HEARD)
            else:
                end(connection.wire)
        connection.report_end()

    def _cut(self, connection: Connection, reason: str) -> None:
        """End a stranger's connection."""
        self._complain("silence", f"{connection.address} {reason}, and was cut", trio.current_time())
        connection.gone = reason
        self._end(connection)

    def _complain(self, kind: str, text: str, now: float) -> None:
        self._complaints.say(kind, f"{self._endpoint}: {text}", now)

    # -- what has its time ---------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Look after what is to happen at some time."""
        now = trio.current_time()
        watch = LifeWatch(self._options, now)
        next_look = now + self._options.heartbeat_interval
        while True:
            now = trio.current_time()
            soon = [next_look, now + min(self._options.hello_timeout, LINGER)]
            if self._farewells:
                soon.append(min(farewell.until for farewell in self._farewells.values()))
            others = (self._strangers.next_due(), self._paused_until, self._handshakes.next_due(now))
            soon += [due for due in others if due is not None]
            with trio.CancelScope(deadline=max(min(soon), now + 0.01)) as self._resting:
                await trio.sleep_forever()
            now = trio.current_time()
            for newcomer in self._handshakes.take_due(now):
                self._let_in(newcomer)
            if self._paused_until is not None and now >= self._paused_until:
                self._paused_until = None
                self._epoll.register(self._listener, select.EPOLLIN)
            for fd, farewell in list(self._farewells.items()):
                if now >= farewell.until:
                    self._end_farewell(fd)
            for stranger in self._strangers.take_due(now):
                if self._handshakes.is_waiting(stranger):
                    self._cut(stranger, f"had to wait for TLS longer than {self._options.hello_timeout:g} s")
                    continue
                self._last_looks.add(stranger)
                self._ready[stranger] = None
                self._waiting.wake()
            if now >= next_look:
                next_look = now + self._look_for_life(watch, now)

    def _look_for_life(self, watch: LifeWatch, now: float) -> float:
        """End connections that are lost; return in how many seconds to look again."""
        pause = self._options.heartbeat_interval
        watch.begin(now)
        for connection in list(self._connections.values()):
            lost, soon = watch.look(connection, now)
            pause = min(pause, soon) if lost is None else pause
            if lost is not None:
                connection.gone = connection.gone or lost
                self._end(connection)
        return pause

    # -- the end -------------------------------------------------------------------------------------------

    def close(self, linger: float | None = None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return  # a forked child has closed what it has of it
        self._linger_until = time_now() + (LINGER if linger is None else linger)
        with contextlib.suppress(KeyError, OSError, ValueError):  # the listener may be pausing
            self._epoll.unregister(self._listener)
        self._acceptor.close()
        if self._file is not None and self._file.remove(anyway=not self._started):
            self._file = None
        for fd, farewell in list(self._farewells.items()):
            farewell.hurry()
            self._go_on(fd)
        for connection in [*self._connections.values(), *self._newcomers.values()]:
            connection.forget("the port was closed")
            self._remove(connection)
            self._part(connection, self._linger_until, waits=False)
        if not self._started:
            self._close_epoll()
        else:
            self._waiting.leave()

    def _close_epoll(self) -> None:
        for fd in list(self._farewells):
            self._end_farewell(fd)
        self._epoll.close()

    def disown(self) -> None:
        """See :class:`Owner`."""
        for wire in (
            *(connection.wire for connection in self._connections.values()),
            *(connection.wire for connection in self._newcomers.values()),
            *(farewell.wire for farewell in self._farewells.values()),
        ):
            wire.close()
        self._acceptor.close()
        self._epoll.close()

    async def _finish(self) -> None:
        """Let those who have not got everything get it, and remove the file of the endpoint."""
        try:
            with trio.CancelScope(shield=True):
                with trio.move_on_at(self._linger_until):
                    while self._farewells:
                        await self._waiting_for_farewells()
                until = time.monotonic() + LOCK_PATIENCE
                while self._file is not None and not self._file.remove(anyway=time.monotonic() >= until):
                    await trio.lowlevel.checkpoint()  # whatever clock trio has
        finally:
            self._close_epoll()

    async def _waiting_for_farewells(self) -> None:
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            self._go_on(fd)


def _listen(endpoint: Endpoint, options: TransportOptions) -> Listener:
    try:
        return Listener(endpoint, blocking=options.blocking)
    except (BindError, EndpointBusy):
        raise
    except OSError as error:
        raise BindError(f"cannot bind {endpoint}: {cause(error)}") from None
