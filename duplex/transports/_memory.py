"""``memory://`` endpoints: both ends in one trio run, without a socket.

For tests and for services that live together. It is deterministic, works under
:class:`trio.testing.MockClock`, and notices everything: connecting, waiting for someone to bind, and the
end of either side.

Nothing here wakes a task directly, because a message may be sent from an instrument, where tasks must not
be rescheduled: deliveries are queued, and the receiving port is woken through ``run_sync_soon``, once for
all that is queued by then.
"""

from __future__ import annotations

import itertools
import uuid
from abc import abstractmethod
from collections import deque
from types import EllipsisType
from typing import Final, TypeAlias, final

import trio

from duplex._errors import BindError, ConfigurationError
from duplex._identity import ANONYMOUS
from duplex.transports._backoff import Backoff
from duplex.transports._base import (
    ZERO_COPY_FROM,
    Buffer,
    CarrierDown,
    Frames,
    Port,
    Receiver,
    TransportOptions,
    TurnTaker,
    take_turns,
)

SCHEMES: Final = frozenset({"memory"})

#: Items delivered before other tasks get their turn.
_TURN: Final = 32


class _Names:
    """What is bound in one trio run, and who waits for a name to be bound."""

    def __init__(self) -> None:
        self.bound: dict[str, _BoundPort] = {}
        self.waiting: dict[str, dict[_ConnectingPort, None]] = {}


_names: trio.lowlevel.RunVar[_Names] = trio.lowlevel.RunVar("duplex memory endpoints")


def _get_names() -> _Names:
    try:
        return _names.get()
    except LookupError:
        names = _Names()
        _names.set(names)
        return names


@final
class MemoryTransport:
    """See :class:`Transport`. Endpoints are ``memory://name``; binding ``memory://*`` makes up a name."""

    @property
    def schemes(self) -> frozenset[str]:
        return SCHEMES

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        name = _parse(endpoint)
        if name == "*":
            name = f"duplex-{uuid.uuid4().hex}"
        names = _get_names()
        if name in names.bound:
            raise BindError(f"cannot bind memory://{name}: it is bound already")
        port = _BoundPort(name, receiver, options, names)
        names.bound[name] = port
        for waiting in names.waiting.pop(name, {}):
            waiting.attach(port)
        return port

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        name = _parse(endpoint)
        if name == "*":
            raise ConfigurationError("'memory://*' is for binding; connect to the endpoint that the port got")
        return _ConnectingPort(name, receiver, options, _get_names())


def _parse(endpoint: str) -> str:
    scheme, separator, name = endpoint.partition("://")
    if scheme != "memory" or not separator or not name:
        raise ConfigurationError(f"{endpoint!r} is not an endpoint of this transport; write memory://name")
    return name


class _Link:
    """One connection. The bound side's carrier comes with its first message."""

    def __init__(self, client: _ConnectingPort, server: _BoundPort, number: int) -> None:
        self.client = client
        self.server = server
        self.number = number
        self.near = _Carrier(self, client, f"memory://{client.name}")
        self.far: _Carrier | None = None
        #: The bound side has closed its carrier, and hears no more of this connection.
        self.muted = False
        #: Why nothing can be sent any more.
        self.ended: str | None = None
        server.links[self] = None

    def end(self, reason: str) -> None:
        """Tell both sides, after what was sent before."""
        if self.ended is None:
            self.ended = reason
            del self.server.links[self]
            self.client.post(self, None)
            self.server.post(self, None)


class _Carrier:
    __slots__ = ("__weakref__", "_link", "_port", "address", "closed")

    identity: Final = ANONYMOUS

    def __init__(self, link: _Link, port: _Port, address: str) -> None:
        self._link = link
        self._port = port
        self.address = address
        self.closed = False

    @property
    def turns(self) -> _Port:
        return self._port

    def send(self, frames: Frames) -> None:
        link = self._link
        if self.closed:
            raise CarrierDown("the carrier was closed")
        if link.ended is not None:
            raise CarrierDown(link.ended)
        other: _Port = link.server if self._port is link.client else link.client
        message = _snapshot(frames)
        if max(map(len, message)) > other.options.max_frame:
            link.end(f"a frame was longer than the {other.options.max_frame} bytes that the receiver takes")
        else:
            other.post(link, message)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._port.carrier_closed(self._link)


def _snapshot(frames: Frames) -> list[Buffer]:
    """Give a message the form it has when it comes from a socket."""
    message: list[Buffer] = []
    for index, frame in enumerate(frames):
        if index and memoryview(frame).nbytes >= ZERO_COPY_FROM:
            view = memoryview(frame)
            message.append(view.toreadonly().cast("B") if view.c_contiguous else memoryview(view.tobytes()))
        else:
            message.append(bytes(frame))
    if not message:
        raise ValueError("a message needs at least one frame")
    return message


#: A message, or ``None`` for the end of the link, or ``...`` for its beginning.
_News: TypeAlias = "tuple[_Link, list[Buffer] | EllipsisType | None]"


class _Port:
    """What both kinds of port share: an inbox, and the task that empties it."""

    def __init__(self, name: str, receiver: Receiver, options: TransportOptions, names: _Names) -> None:
        self.name = name
        self.options = options
        self._receiver = receiver
        self._names = names
        self._inbox: deque[_News] = deque()
        self._lot = trio.lowlevel.ParkingLot()
        self._token = trio.lowlevel.current_trio_token()
        self._started = False
        self._closed = False

    @property
    def endpoint(self) -> str:
        return f"memory://{self.name}"

    @property
    @abstractmethod
    def last_error(self) -> str | None: ...

    @property
    def attempt(self) -> str | None:
        return None  # it takes no time

    def post(self, link: _Link, news: list[Buffer] | EllipsisType | None) -> None:
        """Queue news for the receiver."""
        if not self._closed:
            self._inbox.append((link, news))
            self._wake()

    def _wake(self) -> None:
        try:
            self._token.run_sync_soon(self._lot.unpark_all, idempotent=True)
        except trio.RunFinishedError:
            pass  # the port outlived its run, so nobody waits

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if self._started:
            raise RuntimeError("run() of a port may be called only once")
        self._started = True
        try:
            await taker(self)
        finally:
            self.close()

    def take(self, *, lazily: bool = False) -> bool:
        """See :meth:`Turns.take`."""
        for _ in range(_TURN):
            if not self._inbox:  # the receiver may also have closed the port
                break
            self._handle(*self._inbox.popleft())
        return not self._closed

    async def wait(self) -> None:
        """See :meth:`Turns.wait`."""
        if self._inbox or self._closed:
            await trio.lowlevel.checkpoint()
        else:
            await self._lot.park()

    @abstractmethod
    def _handle(self, link: _Link, news: list[Buffer] | EllipsisType | None) -> None:
        """Pass news on to the receiver."""

    @abstractmethod
    def carrier_closed(self, link: _Link) -> None:
        """A carrier of this port was closed."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """See :class:`Turns`."""

    def sends_done(self) -> None:
        """Nothing to do: deliveries wake their receiver themselves."""

    def probe(self) -> None:
        """Every end is noticed at once, so this only ends a wait for the next turn."""
        self._wake()

    def close(self, linger: float | None = None) -> None:
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self._detach()
            self._wake()

    @abstractmethod
    def _detach(self) -> None:
        """Leave the names and end what is connected."""


class _BoundPort(_Port):
    def __init__(self, name: str, receiver: Receiver, options: TransportOptions, names: _Names) -> None:
        super().__init__(name, receiver, options, names)
        self.links: dict[_Link, None] = {}
        self._numbers = itertools.count(1)

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def last_error(self) -> str | None:
        return None

    def next_number(self) -> int:
        """Number the connections, for their addresses."""
        return next(self._numbers)

    def _handle(self, link: _Link, news: list[Buffer] | EllipsisType | None) -> None:
        if news is None:
            if link.far is not None:
                gone, link.far = link.far, None
                self._receiver.carrier_down(gone, link.ended or "")
            return
        if link.muted:
            return
        assert isinstance(news, list), "only the connecting side is told of the beginning"
        carrier = link.far
        if carrier is None:
            carrier = link.far = _Carrier(link, self, f"{self.endpoint}#{link.number}")
            self._receiver.carrier_up(carrier)
            if carrier.closed or self._closed:
                return  # the receiver has closed the carrier, or the port, at once
        self._receiver.carrier_message(carrier, news)

    def carrier_closed(self, link: _Link) -> None:
        link.far = None
        link.muted = True

    def _detach(self) -> None:
        del self._names.bound[self.name]
        for link in list(self.links):
            link.end("the remote end closed its port")


class _ConnectingPort(_Port):
    def __init__(self, name: str, receiver: Receiver, options: TransportOptions, names: _Names) -> None:
        super().__init__(name, receiver, options, names)
        self._link: _Link | None = None
        #: When the present or the latest connection was made.
        self._attached_at = 0.0
        self._seek_at: float | None = None
        self._backoff = Backoff(options.reconnect)

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def last_error(self) -> str | None:
        if self.name in self._names.bound:
            return None
        return (
            f"nothing is bound at {self.endpoint} in this event loop, and memory:// reaches no other one; for another "
            f"thread's there is inproc://"
        )

    async def run(self, taker: TurnTaker = take_turns) -> None:
        if not self._started and not self._closed:
            self._seek()
        await super().run(taker)

    async def wait(self) -> None:
        if self._seek_at is None:
            await super().wait()
        else:
            with trio.move_on_at(self._seek_at) as scope:
                await super().wait()
            if scope.cancelled_caught:
                self._seek_at = None
                self._seek()

    def _seek(self) -> None:
        bound = self._names.bound.get(self.name)
        if bound is None:
            self._names.waiting.setdefault(self.name, {})[self] = None
        else:
            self.attach(bound)

    def attach(self, bound: _BoundPort) -> None:
        """Connect to a port that is bound."""
        self._link = _Link(self, bound, bound.next_number())
        self._attached_at = trio.current_time()
        self.post(self._link, ...)

    def _handle(self, link: _Link, news: list[Buffer] | EllipsisType | None) -> None:
        if link is not self._link:
            return
        if news is None:
            self._detached()
            self._receiver.carrier_down(link.near, link.ended or "")
        elif isinstance(news, list):
            self._receiver.carrier_message(link.near, news)
        else:
            self._receiver.carrier_up(link.near)

    def _detached(self) -> None:
        """Look for another connection after a pause, or as soon as the name is bound if it no longer is."""
        self._link = None
        now = trio.current_time()
        pause = self._backoff.pause(now - self._attached_at)
        if self.name in self._names.bound:
            self._seek_at = now + pause
        else:
            self._seek()

    def carrier_closed(self, link: _Link) -> None:
        if link is self._link:
            self._detached()
        link.end("the remote end closed the connection")  # which also wakes this port

    def _detach(self) -> None:
        self._seek_at = None
        self._names.waiting.get(self.name, {}).pop(self, None)
        if self._link is not None:
            self._link.end("the remote end closed its port")
            self._link = None
