"""Every transport keeps the contract, and the suite that says so can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from duplex import BindError, ConfigurationError
from duplex.testing import check_transport
from duplex.transports import (
    DEFAULT,
    Carrier,
    CarrierDown,
    Frames,
    MemoryTransport,
    Port,
    Receiver,
    TransportOptions,
)
from tests.transports.certificates import tls
from tests.transports.helpers import LIMITS, WILDCARDS


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", WILDCARDS)
async def test_every_scheme_conforms(endpoint: str) -> None:
    scheme = endpoint.partition(":")[0]
    await check_transport(DEFAULT.transport_for(endpoint), endpoint, tls=tls(), **LIMITS.get(scheme, {}))


async def test_memory_conforms_under_autojump(autojump_clock: trio.testing.MockClock) -> None:
    await check_transport(MemoryTransport(), "memory://*")


class Wrapped:
    """A memory transport with something wrong with it: carriers, or the receiver, are wrapped."""

    schemes = frozenset({"memory"})

    def __init__(self, wrap: Callable[[Receiver], Receiver]) -> None:
        self._inner = MemoryTransport()
        self._wrap = wrap

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return self._inner.bind(endpoint, self._wrap(receiver), options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return self._inner.connect(endpoint, self._wrap(receiver), options)


class Through:
    """Passes everything on."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.count = 0

    def carrier_up(self, carrier: Carrier) -> None:
        self.receiver.carrier_up(carrier)

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self.receiver.carrier_message(carrier, frames)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self.receiver.carrier_down(carrier, reason)


class Loses(Through):
    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self.count += 1
        if self.count % 1000:
            super().carrier_message(carrier, frames)


class Swaps(Through):
    kept: tuple[Carrier, Frames] | None = None

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self.count += 1
        if self.count == 500:
            self.kept = carrier, frames
            return
        super().carrier_message(carrier, frames)
        if self.kept is not None:
            kept, self.kept = self.kept, None
            super().carrier_message(*kept)


class DropsEmptyFrames(Through):
    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        super().carrier_message(carrier, [frames[0], *(frame for frame in frames[1:] if frame)])


class Duplicates(Through):
    def carrier_up(self, carrier: Carrier) -> None:
        super().carrier_up(carrier)
        super().carrier_up(carrier)


class NeverDown(Through):
    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        pass


class DownTwice(Through):
    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        super().carrier_down(carrier, reason)
        super().carrier_down(carrier, reason)


class WithoutReason(Through):
    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        super().carrier_down(carrier, "")


class MessageBeforeUp(Through):
    def carrier_up(self, carrier: Carrier) -> None:
        self.receiver.carrier_message(carrier, [b"early"])
        super().carrier_up(carrier)


class FirstFrameAsView(Through):
    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        super().carrier_message(carrier, [memoryview(frames[0]), *frames[1:]])


class SilentAfterDown(Through):
    """Carriers that never refuse to send."""

    def carrier_up(self, carrier: Carrier) -> None:
        def send(frames: Frames) -> None:
            try:
                inner(frames)
            except CarrierDown:
                pass

        inner = carrier.send
        stand_in: Any = _Carrier(carrier, send)
        self.known = {**getattr(self, "known", {}), carrier: stand_in}
        super().carrier_up(stand_in)

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        super().carrier_message(self.known[carrier], frames)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        super().carrier_down(self.known[carrier], reason)


class NeedsATask(Through):
    """Carriers that can send only from a task."""

    def carrier_up(self, carrier: Carrier) -> None:
        def send(frames: Frames) -> None:
            trio.lowlevel.current_task()
            inner(frames)

        inner = carrier.send
        stand_in: Any = _Carrier(carrier, send)
        self.known = {**getattr(self, "known", {}), carrier: stand_in}
        super().carrier_up(stand_in)

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        super().carrier_message(self.known[carrier], frames)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        super().carrier_down(self.known[carrier], reason)


class _Carrier:
    def __init__(self, inner: Carrier, send: Callable[[Frames], None]) -> None:
        self.address = inner.address
        self.identity = inner.identity
        self.turns = inner.turns
        self.close = inner.close
        self.send = send


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Loses, "order and whole messages over memory://*: nothing more happened"),
        (Swaps, "messages changed, or changed places"),
        (DropsEmptyFrames, "messages changed, or changed places"),
        (Duplicates, "carrier_up twice for one carrier"),
        (NeverDown, "waits for carrier_down"),
        (DownTwice, "carrier_down for a carrier that is not up"),
        (WithoutReason, "carrier_down without a reason"),
        (MessageBeforeUp, "carrier_message for a carrier that is not up"),
        (FirstFrameAsView, "frame 0 is memoryview, not bytes"),
        (NeedsATask, "sending from before_io_wait failed"),
        (SilentAfterDown, "does not raise CarrierDown"),
    ],
)
async def test_the_suite_finds_faults(
    fault: Callable[[Receiver], Receiver], complaint: str, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(AssertionError) as caught:
        await check_transport(Wrapped(fault), "memory://*")
    assert complaint in str(caught.value)


class BindsTwice(MemoryTransport):  # type: ignore[misc]  # final, but a fault is wanted
    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        try:
            return super().bind(endpoint, receiver, options)
        except BindError:
            return super().bind("memory://*", receiver, options)


class TakesAnything(MemoryTransport):  # type: ignore[misc]  # as above
    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        try:
            return super().connect(endpoint, receiver, options)
        except ConfigurationError:
            return super().connect("memory://nonsense", receiver, options)


@pytest.mark.parametrize(
    ("transport", "complaint"),
    [
        (BindsTwice(), "an endpoint could be bound twice"),
        (TakesAnything(), "no ConfigurationError for 'nonsense'"),
    ],
)
async def test_the_suite_finds_faults_of_endpoints(
    transport: MemoryTransport, complaint: str, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(AssertionError) as caught:
        await check_transport(transport, "memory://*")
    assert complaint in str(caught.value)


async def test_errors_that_are_no_complaint_come_through(autojump_clock: trio.testing.MockClock) -> None:
    class Broken(MemoryTransport):  # type: ignore[misc]  # final, but a fault is wanted
        def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        await check_transport(Broken(), "memory://*")
