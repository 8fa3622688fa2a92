"""An event loop that stands still for longer than the heartbeat timeout, with messages arriving: slow, not lost."""

from __future__ import annotations

import dataclasses
from typing import Final

import pytest
import trio

from duplex.transports import DEFAULT, TransportOptions, Turns, take_turns
from tests.transports.helpers import CONNECTED, QUICK, Recorder

#: Signs of life are due so quickly that a test can wait for several times the timeout.
WATCHED: Final = dataclasses.replace(QUICK, heartbeat_interval=0.1, heartbeat_timeout=0.4)
#: Several times what libzmq takes from a connection by default while nobody reads the messages.
MANY: Final = 5000


async def stalled(endpoint: str, options: TransportOptions, count: int) -> tuple[Recorder, Recorder]:
    """Send messages to a bound port that takes no turns, after the first message, until they have been there for long; return both."""
    bound, connecting = Recorder(), Recorder()
    goes_on = trio.Event()

    async def stand_still(turns: Turns) -> None:
        while turns.take() and not bound.messages:
            await turns.wait()
        await goes_on.wait()
        await take_turns(turns)

    bound.taker = stand_still
    transport = DEFAULT.transport_for(endpoint)
    bound.port = transport.bind(endpoint, bound, options)
    connecting.port = transport.connect(bound.port.endpoint, connecting, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        nursery.start_soon(connecting.run)
        carrier = await connecting.up()
        connecting.send(carrier, b"hello")
        await bound.received()
        bound.messages.clear()
        for number in range(count):
            carrier.send([b"%d" % number])
        # Nothing tells that no heartbeat was missed but the time in which it would have been.
        with trio.move_on_after(4 * options.heartbeat_timeout):
            await connecting.down()
        goes_on.set()
        if not connecting.downs:
            await bound.received(count)
        bound.port.close()
        connecting.port.close()
    return bound, connecting


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*", *CONNECTED])
async def test_stalled_end_is_not_lost(endpoint: str) -> None:
    bound, connecting = await stalled(endpoint, WATCHED, MANY)
    assert connecting.downs == []
    assert [bytes(frames[0]) for _, frames in bound.messages] == [b"%d" % number for number in range(MANY)]


@pytest.mark.slow
async def test_a_stalled_end_of_libzmq_does_not_take_in_more_than_its_queue() -> None:
    """Then it looks lost, which is the price of the limit; credit keeps honest peers far from it."""
    _, connecting = await stalled(
        "zmq+tcp://127.0.0.1:*", dataclasses.replace(WATCHED, receive_queue=100), MANY
    )
    assert len(connecting.downs) == 1
