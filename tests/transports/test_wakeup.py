"""The lost wake-up: readiness that a send has taken is looked for, so no message lies unseen."""

from __future__ import annotations

import select
import time
from typing import Any

import pytest
import trio
import trio.testing
import zmq

from duplex.transports import DEFAULT, Carrier, Frames
from duplex.transports._zmq_socket import SocketLoop
from tests.transports.helpers import QUICK, WILDCARDS, Recorder, of_libzmq, open_ports, plain

pytestmark = pytest.mark.unmeasured("streams for seconds")


def forget(loop: SocketLoop) -> None:
    """What sends_done() would be if nobody had heard of the lost wake-up."""


@pytest.mark.parametrize("look", [True, False], ids=["with EVENTS", "without EVENTS"])
async def test_a_send_takes_the_note_of_a_message(look: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race itself, made to happen: a message comes after the loop began to wait, and its note is taken
    by a send. With the look at EVENTS it is delivered at once, without it not at all."""
    if not look:
        monkeypatch.setattr(SocketLoop, "sends_done", forget)
    async with open_ports() as ports:
        bound = ports.bind("zmq+tcp://127.0.0.1:*")
        with zmq.Context() as context, context.socket(zmq.DEALER) as remote:
            remote.connect(plain(bound.port.endpoint))
            remote.send(b"first")
            carrier = await bound.up()
            await trio.testing.wait_all_tasks_blocked()
            loop: Any = bound.port
            # From here to sends_done() there is no checkpoint: the loop is waiting, and stays so.
            remote.send(b"second")
            assert select.select([loop._fd], [], [], 5)[0], "the note did not come"
            # libzmq looks at its notes while sending only if it has not done so for 3 million CPU ticks.
            time.sleep(0.01)
            while select.select([loop._fd], [], [], 0)[0]:
                carrier.send([b"takes the note"])
            carrier.turns.sends_done()
            with trio.move_on_after(5 if look else 0.2) as scope:
                await bound.received(2)
            assert scope.cancelled_caught is not look
            remote.close(0)


async def test_a_send_from_carrier_up_takes_the_note() -> None:
    """The same from within a callback that comes after the loop has seen the socket empty."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as remote:
        remote.linger = 0
        remote.bind("tcp://127.0.0.1:*")

        class Greets(Recorder):
            def carrier_up(self, carrier: Carrier) -> None:
                super().carrier_up(carrier)
                loop: Any = carrier
                remote.send(b"welcome")
                assert select.select([loop._fd], [], [], 5)[0], "the note did not come"
                time.sleep(0.01)  # for the reason given above
                while select.select([loop._fd], [], [], 0)[0]:
                    carrier.send([b"takes the note"])
                carrier.turns.sends_done()

        greets = Greets()
        endpoint = of_libzmq(remote)
        greets.port = DEFAULT.transport_for(endpoint).connect(endpoint, greets, QUICK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greets.run)
            assert await greets.received() == [[b"welcome"]]
            nursery.cancel_scope.cancel()


class Streamer:
    """Sends a stream within a window, and grants the other side credit for what it receives."""

    WINDOW = 256
    BURST = 8

    def __init__(self, total: int) -> None:
        self.total = total
        self.received = 0
        self.sent = 0
        self.credit = self.WINDOW
        self.longest_gap = 0.0
        self.last = time.perf_counter()
        self.carrier: Carrier | None = None
        self.port: Any = None
        self.more = trio.Event()
        self.done = trio.Event()

    def carrier_up(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.more.set()

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        now = time.perf_counter()
        self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        word = frames[0]
        if word == b"hello":
            return
        if word == b"credit":
            self.credit += self.WINDOW // 2
            self.more.set()
            return
        assert int(bytes(word)) == self.received
        self.received += 1
        if self.received % (self.WINDOW // 2) == 0:
            carrier.send([b"credit"])
            carrier.turns.sends_done()
        if self.received == self.total:
            self.done.set()

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        raise AssertionError(reason)

    async def stream(self) -> None:
        await self.more.wait()
        assert self.carrier is not None
        self.last = time.perf_counter()
        while self.sent < self.total:
            if self.credit == 0:
                self.more = trio.Event()
                await self.more.wait()
            for _ in range(min(self.BURST, self.credit, self.total - self.sent)):
                self.carrier.send([b"%d" % self.sent, b"payload" * 8])
                self.sent += 1
                self.credit -= 1
            self.carrier.turns.sends_done()
            await trio.lowlevel.checkpoint()
        await self.done.wait()


async def stream_both_ways(endpoint: str, total: int, deadline: float) -> tuple[bool, float]:
    """Tell whether all arrived in time, and the longest time for which a side received nothing."""
    transport = DEFAULT.transport_for(endpoint)
    one, other = Streamer(total), Streamer(total)
    one.port = transport.bind(endpoint, one, QUICK)
    other.port = transport.connect(one.port.endpoint, other, QUICK)
    complete = False
    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.port.run)
            nursery.start_soon(other.port.run)
            await other.more.wait()
            assert other.carrier is not None
            other.carrier.send([b"hello"])
            async with trio.open_nursery() as streams:
                streams.start_soon(one.stream)
                streams.start_soon(other.stream)
            complete = True
            nursery.cancel_scope.cancel()
    return complete, max(one.longest_gap, other.longest_gap)


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", WILDCARDS)
async def test_streams_in_both_directions_never_stall(endpoint: str) -> None:
    complete, _ = await stream_both_ways(endpoint, 20_000, deadline=20)
    assert complete


@pytest.mark.slow
async def test_without_the_look_at_events_they_do_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketLoop, "sends_done", forget)
    complete, gap = await stream_both_ways("zmq+tcp://127.0.0.1:*", 20_000, deadline=2)
    assert not complete or gap >= 0.05
