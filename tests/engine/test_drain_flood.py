"""Leaving while others do not let go: calls that come without end, calls within calls, pings that nobody answers."""

from __future__ import annotations

import itertools
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

import duplex
from duplex.transports import DEFAULT, Carrier, Frames, Port, TransportOptions
from tests.engine.helpers import until
from tests.engine.hostile import NONE
from tests.engine.raw import HELLO, batch


class Flooder:
    """A hostile client, which makes calls as fast as it is let, and answers pings or not."""

    port: Port

    def __init__(self, *, within: int | None, answers_pings: bool) -> None:
        self._numbers = itertools.count(1, 2)
        self._within = within
        self._answers_pings = answers_pings
        self.carrier: Carrier | None = None
        self.refused = 0
        self.heard_goodbye = False

    def carrier_up(self, carrier: Carrier) -> None:
        self.carrier = carrier
        carrier.send([batch(HELLO)])

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        for command in msgpack.unpackb(frames[0], strict_map_key=False):
            if command[0] == 3 and self._answers_pings:
                carrier.send([batch([4, command[1]])])
            elif command[0] == 5:
                self.heard_goodbye = True
            elif command[0] == 10:
                self.refused += 1

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self.carrier = None

    async def flood(self) -> None:
        """Make calls until the link is over."""
        first = next(self._numbers)
        assert self.carrier is not None
        self.carrier.send([batch([7, first, "work.hang", 2, NONE])])
        parent = first if self._within is not None else None
        while self.carrier is not None:
            calls = [
                [7, next(self._numbers), "work.hang", 2, NONE, 0, None, None, None, parent] for _ in range(20)
            ]
            self.carrier.send([batch(*calls)])
            await trio.sleep(0.01)  # of virtual time


@pytest.mark.parametrize("answers_pings", [True, False])
@pytest.mark.parametrize("within", [None, 1])
async def test_a_flood_of_calls_does_not_hold_up_a_drain(
    within: int | None, answers_pings: bool, autojump_clock: object
) -> None:
    """New ones are refused. Those within one that runs are part of it, and are cut with it when the time is over; and
    the honest client has its answer."""
    service = duplex.Service("work")
    running = 0

    @service.rpc
    async def hang() -> None:
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    @service.rpc
    async def finish() -> str:
        await trio.sleep(2)
        return "done"

    limits = duplex.Limits(max_handlers=200)
    async with (
        duplex.open_peer(services=[service], limits=limits) as server,
        duplex.open_peer() as client,
        trio.open_nursery() as nursery,
    ):
        endpoint = await server.bind("memory://*")
        link = await client.connect(endpoint)
        flooder = Flooder(within=within, answers_pings=answers_pings)
        flooder.port = DEFAULT.transport_for(endpoint).connect(endpoint, flooder, TransportOptions())
        nursery.start_soon(flooder.port.run)
        await until(lambda: len(server.links) == 2)
        results: list[Any] = []

        async def call() -> None:
            results.append(await link.service("work").finish())

        nursery.start_soon(call)
        nursery.start_soon(flooder.flood)
        while running < 100:
            await trio.sleep(0.01)  # of virtual time
        began = trio.current_time()
        await server.drain(5)
        took = trio.current_time() - began
        assert 5 <= took <= 5 + 1 + 1 + 0.5, "the timeout, a moment to clean up, and one to confirm"
        assert results == ["done"]
        assert flooder.heard_goodbye
        assert flooder.refused > 100
        assert running == 0
        assert server.links == []
        await until(lambda: flooder.carrier is None)
        flooder.port.close()
