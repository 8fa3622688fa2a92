"""One ZeroMQ socket and the only task that receives from it.

**The lost wake-up.** A ZeroMQ socket's file descriptor becomes readable when libzmq's I/O thread leaves a
note for the socket, not when a message is there. Whatever looks at the notes, a *send* included, takes
them. So a task that received until ``EAGAIN`` and then waits for the descriptor can sleep on a message
whose note a sender has taken. The rule that makes this safe, all of it in this file:

1. only :meth:`SocketLoop.take` receives, and :meth:`SocketLoop.wait` waits for the descriptor only if the last
   thing that libzmq said was that no message is there (``EAGAIN``, or :meth:`SocketLoop._is_empty`), or rule 2 is
   going to be followed before the event loop sleeps;
2. the sender calls :meth:`SocketLoop.sends_done` after the burst, which asks libzmq whether a message is
   there, and if so gets the loop out of its wait.

**The monitor.** libzmq reports the life of connections as messages on a second socket. Its I/O thread
*blocks* when nobody can take such a message any more, and with it everything in this process that uses
ZeroMQ. So the reading end has no queue limit, only the few events that are used are asked for, and the
monitor is always switched off before its reading end is closed: :func:`close_pair` is the only place that
closes either, and both are kept from the garbage collector until then.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import struct
import threading
import time
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio
import zmq
import zmq.utils.garbage

from duplex.transports import _listen
from duplex.transports._base import ZERO_COPY_FROM, Buffer, EndpointBusy, Frames, TurnTaker
from duplex.transports._zmq_options import MAX_SOCKETS

T = TypeVar("T")

#: Messages taken from a socket before other tasks get their turn, and seconds after which no more are taken. Those that are
#: only put by, since more came over their link than can be acted on, take a microsecond or two each, and in libzmq's queue
#: they take three times as much memory.
TURN: Final = 256
LONG_TURN: Final = 0.001

# Plain ints: combining zmq's enums costs more than the call they are passed to.
NOBLOCK: Final = int(zmq.NOBLOCK)
NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
#: After a turn whose laziness was wrong, so many are not lazy: it costs more than ten to be woken.
BUSY_TURNS: Final = 16
#: Seconds that closing a socket in the background may take.
_UNBINDING: Final = 0.5
#: Descriptors that libzmq takes with its first socket, that one's own included.
_START: Final = 6
_EVENT: Final = struct.Struct("=Hi")


class _Shared:
    """The process's ZeroMQ context and its open sockets. A forked child starts afresh."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        #: Whether there was a socket, with which libzmq starts its threads.
        self.started = False
        #: Sockets with their monitors. Also what keeps the garbage collector from closing them in the wrong
        #: order; see the module's text.
        self.open: set[tuple[zmq.Socket[bytes], zmq.Socket[bytes] | None]] = set()
        #: When endpoints of this process were unbound; see bind_socket().
        self.unbound: dict[str, float] = {}
        atexit.register(self.transmit_rest)

    def transmit_rest(self) -> None:
        """At exit, give sockets their linger time, as the process would otherwise end before their last
        messages are out. That must be before pyzmq ends the thread which takes back large buffers after
        transmission, for libzmq crashes without it: exit functions run in reverse order, and pyzmq's is
        registered by the import of ``zmq.utils.garbage`` above."""
        if os.getpid() != self.pid:
            return
        for socket, monitor in list(self.open):
            close_pair(socket, monitor)
        self.context.term()


_shared: _Shared | None = None
_creating: Final = threading.Lock()


def _get_shared() -> _Shared:
    global _shared
    if _shared is None or _shared.pid != os.getpid():
        with _creating:  # inproc joins runs in several threads only if they have the same context
            if _shared is None or _shared.pid != os.getpid():  # pragma: no branch  # a race of threads
                _shared = _Shared()
    return _shared


def new_socket(kind: zmq.SocketType) -> zmq.Socket[bytes]:
    """Make a socket on the context that all of this process shares (inproc endpoints need that)."""
    shared = _get_shared()
    if not shared.started:
        _require_descriptors(_START)
    socket = shared.context.socket(kind)
    shared.started = True
    return socket


def _require_descriptors(count: int) -> None:
    """Raise ZMQError if so many descriptors cannot be had: libzmq ends the process where it cannot start."""
    try:
        with contextlib.ExitStack() as spare:
            for _ in range(count):
                spare.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise zmq.ZMQError(error.errno) from None


def sender(socket: zmq.Socket[bytes]) -> Callable[..., Any]:
    """Return ``socket.send`` without what pyzmq's own class adds: routing ids and groups, which no socket here
    has, looked for in every frame."""
    send: Callable[..., Any] = zmq.backend.Socket.send.__get__(socket)
    return send


def close_pair(
    socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None, linger: int | None = None
) -> None:
    """Close a socket and the reading end of its monitor in the only order that is safe."""
    if monitor is not None:
        with contextlib.suppress(zmq.ZMQError):  # it is off already if the context has ended
            socket.disable_monitor()
        monitor.close(0)
    socket.close(linger)


def cause(error: zmq.ZMQError | OSError) -> str:
    """Say what went wrong, without what pyzmq and Python add."""
    if isinstance(error, OSError):
        return _listen.cause(error)
    return zmq.strerror(error.errno) if error.errno else str(error)


def bind_when_free(endpoint: str, bind: Callable[[], T], *, blocking: bool = True) -> T:
    """Bind. libzmq closes sockets in the background, so an endpoint that this process has only just closed
    may be taken for another moment (well under a millisecond, as a rule); it is waited for, if that may be, or told by
    ``EndpointBusy``."""
    unbound = _get_shared().unbound
    until = unbound.get(endpoint, 0.0) + _UNBINDING
    while True:
        try:
            bound = bind()
        except (zmq.ZMQError, OSError) as error:
            patience = until - time.monotonic()
            if error.errno != errno.EADDRINUSE or patience <= 0:
                raise
            if not blocking:
                raise EndpointBusy(f"cannot bind {endpoint}: {cause(error)}", patience) from None
        else:
            unbound.pop(endpoint, None)
            return bound
        time.sleep(0.0005)


def note_unbound(endpoint: str) -> None:
    """Remember that a bound socket was closed just now."""
    unbound = _get_shared().unbound
    now = time.monotonic()
    for old in [name for name, when in list(unbound.items()) if when + _UNBINDING < now]:
        del unbound[old]
    unbound[endpoint] = now


def _monitor(shared: _Shared, socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
    """Return the reading end of a new monitor."""
    name = f"inproc://duplex-monitor-{uuid.uuid4().hex}"
    monitor = shared.context.socket(zmq.PAIR)
    try:
        socket.monitor(name, events)
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(name)
    except BaseException:
        close_pair(socket, monitor, 0)
        raise
    return monitor


class SocketLoop:
    """Owns a socket. Subclasses say what to do with messages and with the monitor's events.

    Args:
        socket: with its options set. It belongs to the loop from now on.
        events: the monitor's events to report; 0 for none.
    """

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        self._socket = socket
        self._get: Callable[[int], Any] = socket.get
        self._fd = int(socket.get(zmq.FD))
        self._monitor: zmq.Socket[bytes] | None = None
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._busy = False
        self._again = False
        self._waits = False
        self._waking = False
        #: For so many turns there is no being lazy, because there was more than one message lately.
        self._busy_turns = 0
        shared = _get_shared()
        if events:
            try:
                self._monitor = _monitor(shared, socket, events)
            except BaseException:
                socket.close(0)
                raise
        self._stopped = False
        self._home = shared
        self._entry = (socket, self._monitor)
        shared.open.add(self._entry)

    def __del__(self) -> None:
        if not getattr(self, "_stopped", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.stop(0)

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """See :class:`Turns`."""

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    async def serve(self, taker: TurnTaker) -> None:
        """Receive until :meth:`stop`; ``taker`` as for :meth:`Port.run`."""
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                if self._monitor is not None:
                    nursery.start_soon(self._watch, int(self._monitor.get(zmq.FD)))
                await taker(self)
                nursery.cancel_scope.cancel()

    async def wait(self) -> None:
        """See :meth:`Turns.wait`."""
        if self._again:
            await trio.lowlevel.checkpoint()
        elif not self._stopped:
            self._waits = True
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except trio.ClosedResourceError:
                pass  # _interrupt() uses this to end the wait; the descriptor is as it was
            finally:
                self._waits = False

    def take(self, *, lazily: bool = False) -> bool:
        """See :meth:`Turns.take`. ``_again`` is set unless waiting is safe."""
        if self._stopped:
            return False
        self._busy = True
        if self._busy_turns:
            self._busy_turns -= 1
            lazily = False
        try:
            drained = self._take_some(lazily)
            self._again = drained is False or (drained is None and self._has_news())
            self._settle(drained is True)
        except zmq.ZMQError as error:
            # A receiver may have closed the port in the middle of the turn.
            if not self._stopped:
                self._broken(f"the socket failed: {cause(error)}")
                self.stop()
        finally:
            self._busy = False
        return not self._stopped

    @trio.lowlevel.enable_ki_protection
    async def _watch(self, fd: int) -> None:
        while not self._stopped:  # pragma: no branch  # stopped in the same pass of trio's loop
            if self.read_events():
                self.wake()
            await trio.lowlevel.wait_readable(fd)

    def read_events(self) -> bool:
        """Pass every event that the monitor holds to ``_on_event``; tell whether there was one."""
        found = False
        while self._monitor is not None:
            try:
                event, value = _EVENT.unpack(self._monitor.recv_multipart(NOBLOCK)[0])
            except zmq.ZMQError:
                break
            found = True
            self._on_event(event, value)
        return found

    def sends_done(self) -> None:
        """See :meth:`Turns.sends_done`."""
        if self._busy:
            self._again = True
        elif not self._stopped:
            try:
                readable = self._get(_EVENTS) & _POLLIN
            except zmq.ZMQError:
                readable = 1  # the loop will meet the same error, and tell
            if readable:
                self._busy_turns = BUSY_TURNS
                self.wake()

    def probe(self) -> None:
        """See :meth:`Turns.probe`."""
        self.wake()

    def wake(self) -> None:
        """Make the loop look at its socket soon. For any synchronous code of the trio thread."""
        if not self._waits:
            self._again = True
        elif self._token is not None and not self._waking and not self._stopped:
            self._waking = True
            self._token.run_sync_soon(self._interrupt)

    def _interrupt(self) -> None:
        self._waking = False
        if not self._waits:
            # Who waited has left in the meantime, without having looked.
            self._again = True
        elif not self._stopped:
            trio.lowlevel.notify_closing(self._fd)

    def stop(self, linger: int | None = None) -> None:
        """Close the socket, make :meth:`take` return ``False`` and :meth:`serve` return. Idempotent.

        Args:
            linger: milliseconds to go on transmitting what was handed over; ``None`` as the options say.
        """
        if self._stopped:
            return
        self._stopped = True
        self._home.open.discard(self._entry)
        monitor, self._monitor = self._monitor, None
        if self._home.pid != os.getpid():
            return  # a forked child must not touch what its parent uses
        try:
            if self._token is not None:
                # Take the waiting tasks off the descriptors, which must happen before these are closed.
                self._scope.cancel()
                if self._waits:
                    trio.lowlevel.notify_closing(self._fd)
        finally:
            # Also when the event loop was torn down under it: a socket left open holds the process at its exit.
            close_pair(self._socket, monitor, linger)
            self._after_stop()

    @abstractmethod
    def _take_some(self, lazily: bool) -> bool | None:
        """Receive up to TURN messages; tell whether the last thing that was done is to learn that there is no
        other one: ``False`` if there may be, ``None`` if it was not asked, for laziness.

        That costs less from :meth:`_is_empty` than from the exception of ``EAGAIN``, but more than to receive a
        message that is there. So it is asked after the first message of a turn, which is the only one as a rule.
        """

    def _has_news(self) -> bool:
        """Whether :meth:`_settle` has something to report once the messages before it are delivered."""
        return False

    def _is_empty(self) -> bool:
        """Whether no message is there."""
        return not self._get(_EVENTS) & _POLLIN

    def _settle(self, drained: bool) -> None:
        """Report changes that must come after the messages before them."""

    def _after_stop(self) -> None:
        """Do what must follow the closing of the socket."""

    def _on_event(self, event: int, value: int) -> None:
        """Note an event of the monitor."""

    @abstractmethod
    def _broken(self, reason: str) -> None:
        """Report that the socket cannot be used any more; it is stopped afterwards."""

    def _take_message(self, first: zmq.Frame) -> Frames:
        """Receive the rest of a message, without copying what is large."""
        frames: list[Buffer] = [first.bytes]
        frame = first
        while frame.more:
            frame = self._socket.recv(NOBLOCK, False)
            frames.append(frame.buffer if len(frame) >= ZERO_COPY_FROM else frame.bytes)
        return frames


def checked(frames: Frames) -> list[tuple[Buffer, bool]]:
    """Pair each frame with whether libzmq shall copy it.

    Everything that could go wrong with a frame goes wrong here, before the first is handed over: a message
    that is given up half-way would swallow the next one of whichever remote end.
    """
    pairs: list[tuple[Buffer, bool]] = []
    for frame in frames:
        if type(frame) is bytes:
            size = len(frame)
        else:
            view = memoryview(frame)
            size = view.nbytes
            if not view.c_contiguous:
                frame = view.tobytes()
        pairs.append((frame, size < ZERO_COPY_FROM))
    if not pairs:
        raise ValueError("a message needs at least one frame")
    return pairs
