"""A transport around another that delivers what comes in an order of :mod:`tests.wires.orders`.

Every rule of :mod:`duplex.transports` is kept, so whatever works over the inner one has to work over this.
"""

from __future__ import annotations

import random
import time
from typing import Final

import trio

import duplex
from duplex.transports import (
    Carrier,
    Frames,
    Port,
    Receiver,
    Transport,
    TransportOptions,
    Turns,
    TurnTaker,
    take_turns,
)
from tests.wires.orders import Line, News, Order
from tests.wires.rearranged import most_commands

#: Of the passes in which something waits, so many take a while, so that threads and other processes come in between;
#: and how long that is, in seconds.
LONG_PASSES: Final = 0.1
LONG: Final = 0.001


class WireTransport:
    """See :class:`duplex.transports.Transport`.

    Args:
        inner: what moves the messages.
        order: how they are delivered.
        seed: of all that is left to chance.
    """

    def __init__(self, inner: Transport, order: type[Order], seed: str) -> None:
        self._inner = inner
        self._order = order
        self._random = random.Random(seed)

    @property
    def schemes(self) -> frozenset[str]:
        return self._inner.schemes

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        port = self._port(receiver, connecting=False)
        port.inner = self._inner.bind(endpoint, port, options)
        return port

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        port = self._port(receiver, connecting=True)
        port.inner = self._inner.connect(endpoint, port, options)
        return port

    def _port(self, receiver: Receiver, *, connecting: bool) -> WirePort:
        order = self._order(random.Random(self._random.random()))
        return WirePort(receiver, order, connecting=connecting)


class WireCarrier:
    """See :class:`duplex.transports.Carrier`."""

    def __init__(self, port: WirePort, inner: Carrier) -> None:
        self._port = port
        self._inner = inner
        self.most_commands: int | None = None
        self.closed = False

    @property
    def address(self) -> str:
        return self._inner.address

    @property
    def identity(self) -> duplex.Identity:
        return self._inner.identity

    @property
    def turns(self) -> WireTurns:
        return self._port.turns_around(self._inner.turns)

    def send(self, frames: Frames) -> None:
        if self.most_commands is None:
            self.most_commands = most_commands(frames)
        self._inner.send(frames)

    def close(self) -> None:
        self.closed = True
        self._inner.close()
        self._port.forget(self._inner)


class WirePort:
    """See :class:`duplex.transports.Port`; it is the receiver of the inner one."""

    inner: Port

    def __init__(self, receiver: Receiver, order: Order, *, connecting: bool) -> None:
        self._receiver = receiver
        self.order = order
        self._connecting = connecting
        self._carriers: dict[Carrier, WireCarrier] = {}
        #: What waits, by remote end. Of a connecting port they follow one another, and wait in one line.
        self._lines: dict[Carrier | None, Line] = {}
        self._turns: dict[Turns, WireTurns] = {}
        self._closed = False

    @property
    def endpoint(self) -> str:
        return self.inner.endpoint

    @property
    def last_error(self) -> str | None:
        return self.inner.last_error

    @property
    def attempt(self) -> str | None:
        return self.inner.attempt

    async def run(self, taker: TurnTaker = take_turns) -> None:
        async def take(turns: Turns) -> None:
            try:
                await taker(self.turns_around(turns))
            finally:
                del self._turns[turns]

        await self.inner.run(take)

    def turns_around(self, inner: Turns) -> WireTurns:
        """Return what stands around some turns of the inner port."""
        return self._turns.setdefault(inner, WireTurns(self, inner))

    def close(self, linger: float | None = None) -> None:
        self._closed = True
        self._lines.clear()
        self.inner.close(linger)

    def forget(self, inner: Carrier) -> None:
        """A carrier was closed: nothing of it is delivered any more."""
        self._carriers.pop(inner, None)

    # -- from the inner port ---------------------------------------------------------------------------

    def carrier_up(self, carrier: Carrier) -> None:
        self._carriers[carrier] = WireCarrier(self, carrier)
        self._arrived(carrier, News(self._carriers[carrier]))

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self._arrived(carrier, News(self._carriers[carrier], frames))

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self._arrived(carrier, News(self._carriers.pop(carrier), gone=reason))

    def _arrived(self, carrier: Carrier, news: News) -> None:
        line = self._lines.setdefault(None if self._connecting else carrier, Line())
        self.order.arrived(line, news)

    # -- to the receiver -------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether something waits."""
        return bool(self._lines)

    def deliver(self, *, everything: bool) -> None:
        """Deliver what is due; or everything, if it may be long until something comes again."""
        lines = list(self._lines.values())
        due = [(line, len(line)) for line in lines] if everything else self.order.due(lines) if lines else []
        for line, count in due:
            while count and line:
                news = line.popleft()
                # A bound port hears of a remote end by its first message.
                count -= news.frames is not None or news.gone is not None or self._connecting
                self._pass_on(news)
        self._lines = {key: line for key, line in self._lines.items() if line}

    def _pass_on(self, news: News) -> None:
        carrier = news.carrier
        assert isinstance(carrier, WireCarrier)
        if self._closed or carrier.closed:
            return
        if news.frames is not None:
            self._receiver.carrier_message(carrier, news.frames)
        elif news.gone is not None:
            self._receiver.carrier_down(carrier, news.gone)
        else:
            self._receiver.carrier_up(carrier)


class WireTurns:
    """See :class:`duplex.transports.Turns`."""

    def __init__(self, port: WirePort, inner: Turns) -> None:
        self._port = port
        self._inner = inner

    @property
    def is_shared(self) -> bool:
        return self._inner.is_shared

    def sends_done(self) -> None:
        self._inner.sends_done()

    def probe(self) -> None:
        self._inner.probe()

    def take(self, *, lazily: bool = False) -> bool:
        # Not lazily: the engine may be told of nothing, and then takes no care of it.
        goes_on = self._inner.take()
        self._port.deliver(everything=not goes_on)
        return goes_on

    async def wait(self) -> None:
        port = self._port
        if not port.holds:
            await self._inner.wait()
            return
        port.order.now += 1
        until = time.perf_counter() + (LONG if port.order.random.random() < LONG_PASSES else 0)
        await trio.lowlevel.checkpoint()
        while time.perf_counter() < until:
            # Not asleep: tests take a loop in which nothing can run for one to which everything has come.
            await trio.lowlevel.checkpoint()
