"""trio and pyzmq alone, in the manner of Duplex: what an event loop, batches and calls matched by number cost.

As with Duplex, what is queued for a remote end in one pass of trio's loop is one message, a handler runs where its call
was received, and a client has a DEALER socket and a receiving task for each link. There are no credit, deadlines,
validation, errors or cancellation: a floor for Duplex, not something to build on. Streams go in bursts that are asked
for or confirmed, which is all that bounds memory.

**Wake-ups.** A ZeroMQ socket's descriptor becomes readable when something changes, and whatever looks at the socket, a
send included, takes that back. So each socket that was used is asked, before trio sleeps, whether a message is there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import msgspec
import trio
import zmq

from benchmarks._payloads import CHUNK, KiB
from benchmarks.peers import Client, More
from benchmarks.peers._msgpack import encode
from benchmarks.peers._trio import Trio

#: Commands that are not held back until the end of the pass.
_FLUSH_AT: Final = 32
#: Messages taken from a socket before other tasks get their turn.
_TURN: Final = 32
#: After there was more than one message, so many turns look for a second one: to be woken for it costs more.
_BUSY_TURNS: Final = 16
#: Passes of the loop in which it does not sleep, until sockets are asked all the same.
_MOST_POSTPONED: Final = 8
#: Items of a stream that are asked for or confirmed at once.
_BURST: Final = 64 * CHUNK
#: Bytes of this size and more are a frame of their own.
_FRAME_FROM: Final = 64 * KiB
_ECHO, _BYTES, _ARRAY, _REPEAT, _ITEM, _COUNT = range(6)
#: Their values are frames behind the batch, in its order.
_FRAMED: Final = frozenset({_BYTES, _ARRAY})
# Plain ints: zmq's enums cost more than the calls they are passed to.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)

_decode: Final = msgspec.msgpack.Decoder().decode


class _Flusher(trio.abc.Instrument):
    """Transmits what was queued, and asks the sockets, before trio waits."""

    def __init__(self) -> None:
        self.dirty: list[_Batch] = []
        self.unsettled: set[_Receiver] = set()
        self._postponed = 0

    def before_io_wait(self, timeout: float) -> None:
        dirty, self.dirty = self.dirty, []
        for batch in dirty:
            batch.transmit()
        if timeout > 0 or self._postponed >= _MOST_POSTPONED:
            self._postponed = 0
            unsettled, self.unsettled = self.unsettled, set()
            for receiver in unsettled:
                receiver.settle()
        else:
            self._postponed += 1


class _Receiver:
    """One socket and the task that receives from it."""

    def __init__(self, kind: zmq.SocketType, flusher: _Flusher) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        context.set(zmq.MAX_SOCKETS, 4096)
        self.socket = context.socket(kind)
        self.socket.linger = 0
        # Nothing waits for room, and a ROUTER drops what does not fit its queue.
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.flusher = flusher
        self._recv = self.socket.recv
        self._get: Callable[[int], Any] = self.socket.get
        self._fd = int(self._get(zmq.FD))
        self._token = trio.lowlevel.current_trio_token()
        self._waits = False
        self._busy_turns = 0

    async def receive(self) -> None:
        """Receive until cancelled."""
        while True:
            if self._take():
                await trio.lowlevel.checkpoint()
                continue
            self._waits = True
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except trio.ClosedResourceError:
                pass  # settle() ends the wait so
            finally:
                self._waits = False

    def _take(self) -> bool:
        """Receive a message, or more if there were more lately; tell whether the turn was too short for them.

        If it was not, it is safe to wait: settle() is called before trio sleeps.
        """
        most = _TURN if self._busy_turns else 1
        taken = 0
        try:
            while taken < most:
                self._take_message()
                taken += 1
        except zmq.Again:
            pass
        self._busy_turns = _BUSY_TURNS if taken > 1 else max(0, self._busy_turns - 1)
        self.flusher.unsettled.add(self)
        return taken == _TURN

    @abstractmethod
    def _take_message(self) -> None:
        """Receive one message, and do what it says; raises ``zmq.Again`` if there is none."""

    def settle(self) -> None:
        """Get the receiving task out of its wait if there is a message."""
        if self._waits and self._get(_EVENTS) & _POLLIN:
            self._busy_turns = _BUSY_TURNS
            self._token.run_sync_soon(self._interrupt)  # an instrument must not reschedule tasks

    def _interrupt(self) -> None:
        if self._waits:
            trio.lowlevel.notify_closing(self._fd)


class _Batch:
    """What goes to one remote end: commands, and the frames of some of them."""

    def __init__(self, receiver: _Receiver, routing_id: bytes = b"") -> None:
        self._receiver = receiver
        self._flusher = receiver.flusher
        self._routing_id = routing_id
        # Without what pyzmq's own class adds in Python.
        self._send: Callable[..., Any] = zmq.backend.Socket.send.__get__(receiver.socket)
        self._commands: list[tuple[int, int, Any]] = []
        self._frames: list[Any] = []

    def add(self, number: int, operation: int, value: Any) -> None:
        commands = self._commands
        if not commands:
            self._flusher.dirty.append(self)
        if operation in _FRAMED:
            self._frames.append(value)
            value = None
        commands.append((number, operation, value))
        if len(commands) >= _FLUSH_AT:
            self.transmit()

    def transmit(self) -> None:
        if not self._commands:
            return  # they went out before the end of the pass
        send = self._send
        if self._routing_id:
            send(self._routing_id, _MORE)
        commands = encode(self._commands)
        self._commands = []
        if self._frames:
            *heads, last = commands, *self._frames
            self._frames = []
            for frame in heads:
                send(frame, _MORE, False)
            send(last, _NOBLOCK, False)
        else:
            send(commands, _NOBLOCK)
        self._flusher.unsettled.add(self._receiver)


class _Server(_Receiver):
    """A ROUTER that does at once what it is told."""

    def __init__(self, flusher: _Flusher) -> None:
        super().__init__(zmq.ROUTER, flusher)
        self.socket.backlog = 1024
        self._batches: dict[bytes, _Batch] = {}
        self._swallowed = 0

    def _take_message(self) -> None:
        client = self._recv(_NOBLOCK)
        batch = self._batches.get(client)
        if batch is None:
            batch = self._batches[client] = _Batch(self, client)
        for number, operation, value in _decode(self._recv(_NOBLOCK)):
            if operation == _ECHO:
                batch.add(number, _ECHO, value)
            elif operation == _ITEM:
                self._swallowed += 1
            elif operation == _BYTES:
                batch.add(number, _BYTES, self._recv(_NOBLOCK))
            elif operation == _ARRAY:
                batch.add(number, _ARRAY, self._recv(_NOBLOCK, False).buffer)
            elif operation == _COUNT:
                batch.add(number, _COUNT, self._swallowed)
                self._swallowed = 0
            else:
                for _ in range(_BURST):
                    batch.add(number, _ITEM, value)


class _Link(_Receiver):
    """A DEALER, and the calls that wait for their results."""

    def __init__(self, flusher: _Flusher, address: str) -> None:
        super().__init__(zmq.DEALER, flusher)
        self.socket.connect(address)
        self.batch = _Batch(self)
        #: By number: the task that waits, and then the result.
        self._calls: dict[int, Any] = {}
        self._last = 0
        #: Items of the one stream, and the task that waits for them.
        self.items: deque[Any] = deque()
        self._reader: trio.lowlevel.Task | None = None

    async def call(self, operation: int, value: Any) -> Any:
        """Make a call and return its result."""
        self._last = number = self._last + 1
        self._calls[number] = trio.lowlevel.current_task()
        self.batch.add(number, operation, value)
        await trio.lowlevel.wait_task_rescheduled(_abort)
        return self._calls.pop(number)

    async def wait_items(self) -> None:
        """Wait until items come."""
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(_abort)

    def _take_message(self) -> None:
        calls = self._calls
        for number, operation, value in _decode(self._recv(_NOBLOCK)):
            if operation == _ITEM:
                self.items.append(value)
                continue
            if operation == _BYTES:
                value = self._recv(_NOBLOCK)
            elif operation == _ARRAY:
                value = self._recv(_NOBLOCK, False).buffer
            task, calls[number] = calls[number], value
            trio.lowlevel.reschedule(task)
        if self.items and self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)


def _abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
    # Only the end of everything cancels, and then nobody is left who would wake the task.
    return trio.lowlevel.Abort.SUCCEEDED


class TrioPyzmqClient(Client):
    """See the base class."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    async def unary(self, value: Any, /) -> Any:
        return await self._link.call(_ECHO, value)

    async def echo(self, data: bytes, /) -> Any:
        return await self._link.call(_ECHO if len(data) < _FRAME_FROM else _BYTES, data)

    async def array(self, value: Any, /) -> Any:
        import numpy as np

        return np.frombuffer(await self._link.call(_ARRAY, value), np.float64)

    async def download(self, value: Any, more: More) -> None:
        link = self._link
        received = 0
        for _ in range(2):
            link.batch.add(0, _REPEAT, value)
        while True:
            await link.wait_items()
            while link.items:
                link.items.popleft()
                received += 1
                if received % CHUNK == 0 and not more(CHUNK):
                    return
                if received % _BURST == 0:
                    link.batch.add(0, _REPEAT, value)

    async def upload(self, value: Any, more: More) -> int:
        link = self._link
        received = 0
        while True:
            for _ in range(_BURST // CHUNK):
                for _ in range(CHUNK):
                    link.batch.add(0, _ITEM, value)
                if not more(CHUNK):
                    return received + int(await link.call(_COUNT, None))
            received += await link.call(_COUNT, None)


class TrioPyzmqPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "zmq"
    runtime: ClassVar[Trio] = Trio()

    def __init__(self) -> None:
        #: One for all links, or a pass of the loop would cost more with each.
        self._flusher = _Flusher()

    def serve(self, announce: Callable[[str], None]) -> None:
        trio.run(self.receive, announce)

    async def receive(self, announce: Callable[[str], None]) -> None:
        """Do what :meth:`serve` does, in a loop that runs already."""
        trio.lowlevel.add_instrument(self._flusher)
        server = _Server(self._flusher)
        with server.socket:
            announce(f"tcp://127.0.0.1:{server.socket.bind_to_random_port('tcp://127.0.0.1')}")
            await server.receive()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        trio.lowlevel.add_instrument(self._flusher)  # that does nothing if it is one already
        link = _Link(self._flusher, address)
        with link.socket:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.receive)
                yield TrioPyzmqClient(link)
                nursery.cancel_scope.cancel()


PEER = TrioPyzmqPeer()
