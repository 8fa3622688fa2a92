"""A receiver that records what it is told, and ports that are closed when a test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import zmq

from duplex import Reconnect
from duplex.transports import (
    DEFAULT,
    Carrier,
    Frames,
    Port,
    TransportOptions,
    Transports,
    Turns,
    TurnTaker,
    take_turns,
)
from tests.machine import fail_after
from tests.transports.certificates import tls

#: Reconnects at once, as tests have no time to lose.
QUICK = TransportOptions(reconnect=Reconnect(initial=0.01, maximum=0.05), tls=tls())

#: What each scheme cannot do, for check_transport().
LIMITS: dict[str, dict[str, bool]] = {"inproc": {"notices_close": False, "limits_frames": False}}

#: Wildcards of every scheme.
_SOCKETS = ["tcp://127.0.0.1:*", "tcp://[::1]:*", "tcp://*:*", "ipc://*"]
WILDCARDS = [
    *_SOCKETS,
    "tls://127.0.0.1:*",
    *(f"zmq+{endpoint}" for endpoint in _SOCKETS),
    "inproc://*",
    "memory://*",
]

#: Those of libzmq with real connections behind them.
CONNECTED = ["zmq+tcp://127.0.0.1:*", "zmq+ipc://*"]


def plain(endpoint: str) -> str:
    """Return an endpoint of libzmq as that itself writes it."""
    return endpoint.removeprefix("zmq+")


def of_libzmq(socket: zmq.Socket[bytes]) -> str:
    """Return where a socket is bound, for a port of libzmq's."""
    return f"zmq+{socket.get_string(zmq.LAST_ENDPOINT)}".rstrip("\0")


class Recorder:
    """Keeps what a port reports."""

    port: Port

    def __init__(self) -> None:
        self.taker: TurnTaker = take_turns
        self.ups: list[Carrier] = []
        self.downs: list[tuple[Carrier, str]] = []
        self.messages: list[tuple[Carrier, Frames]] = []
        self.finished = trio.Event()
        self.on_message: Callable[[Carrier, Frames], None] | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def carrier_up(self, carrier: Carrier) -> None:
        self.ups.append(carrier)
        self._changed.unpark_all()

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self.messages.append((carrier, frames))
        if self.on_message is not None:
            self.on_message(carrier, frames)
        self._changed.unpark_all()

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self.downs.append((carrier, reason))
        self._changed.unpark_all()

    async def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        """Wait for something to become true through a callback."""
        with fail_after(seconds):
            while not condition():
                await self._changed.park()

    async def up(self, number: int = 1) -> Carrier:
        await self.until(lambda: len(self.ups) >= number)
        return self.ups[number - 1]

    async def down(self, number: int = 1) -> str:
        await self.until(lambda: len(self.downs) >= number)
        return self.downs[number - 1][1]

    async def received(self, number: int = 1) -> list[list[bytes]]:
        await self.until(lambda: len(self.messages) >= number)
        return [[bytes(frame) for frame in frames] for _, frames in self.messages]

    def send(self, carrier: Carrier, *frames: bytes) -> None:
        carrier.send(frames)
        carrier.turns.sends_done()

    async def run(self) -> None:
        await self.port.run(self.taker)
        self.finished.set()

    async def take_turns_lazily(self, turns: Turns) -> None:
        """A taker that keeps its promise at once."""
        while turns.take(lazily=True):
            turns.sends_done()
            await turns.wait()


class Ports:
    """Opens ports in a nursery."""

    def __init__(self, nursery: trio.Nursery, transports: Transports = DEFAULT) -> None:
        self._nursery = nursery
        self._transports = transports
        #: Whether the turns of ports that are opened from now on are taken lazily.
        self.lazily = False

    def bind(self, endpoint: str, options: TransportOptions = QUICK) -> Recorder:
        recorder = Recorder()
        recorder.port = self._transports.transport_for(endpoint).bind(endpoint, recorder, options)
        return self._start(recorder)

    def connect(self, endpoint: str, options: TransportOptions = QUICK) -> Recorder:
        recorder = Recorder()
        recorder.port = self._transports.transport_for(endpoint).connect(endpoint, recorder, options)
        return self._start(recorder)

    def _start(self, recorder: Recorder) -> Recorder:
        if self.lazily:
            recorder.taker = recorder.take_turns_lazily
        self._nursery.start_soon(recorder.run)
        return recorder

    async def pair(self, endpoint: str, options: TransportOptions = QUICK) -> tuple[Recorder, Recorder]:
        """A bound and a connecting port that have exchanged a message each; ``ups[0]`` is their carrier."""
        bound = self.bind(endpoint, options)
        connecting = self.connect(bound.port.endpoint, options)
        connecting.send(await connecting.up(), b"hello")
        bound.send(await bound.up(), b"welcome")
        await connecting.received()
        for recorder in (bound, connecting):
            recorder.messages.clear()
        return bound, connecting


@asynccontextmanager
async def open_ports(transports: Transports = DEFAULT) -> AsyncIterator[Ports]:
    async with trio.open_nursery() as nursery:
        yield Ports(nursery, transports)
        nursery.cancel_scope.cancel()
