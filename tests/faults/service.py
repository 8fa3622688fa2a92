"""The service that both processes of a fault test offer, with a method for every kind of call.

All streamed items are ``[number of the call, index]``.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import trio

import duplex
from tests.faults.ledger import Ledger, Outcomes

#: The name of the service.
NAME: Final = "faulty"
#: The kind under which calls from a handler back to its caller are counted.
CALLBACK: Final = "callback from the handler"


class Flood:
    """What came of one flood: how many, and which twice."""

    def __init__(self, count: int) -> None:
        self.seen = bytearray(count)
        self.came = 0
        self.twice = 0

    def note(self, index: int) -> None:
        """A message came."""
        self.came += 1
        if self.seen[index]:
            self.twice += 1
        self.seen[index] = 1


class Faulty:
    """The methods, and what they share with the process they run in."""

    def __init__(self, ledger: Ledger, outcomes: Outcomes) -> None:
        self.ledger = ledger
        self.outcomes = outcomes
        self.flood = Flood(0)
        #: Blocks that ``firehose`` has sent, and ``sip`` has taken.
        self.poured = 0
        self.sipped = 0

    @duplex.rpc
    async def work(self, number: int, seconds: float) -> list[int]:
        """Take some time; return the number and the process."""
        with self.ledger.handling("unary", number):
            if seconds:
                await trio.sleep(seconds)
            return [number, os.getpid()]

    @duplex.rpc
    async def produce(self, number: int, length: int, pause: float) -> AsyncIterator[list[int]]:
        """Stream items."""
        with self.ledger.handling("server stream", number):
            for index in range(length):
                yield [number, index]
                if pause:
                    await trio.sleep(pause)

    @duplex.rpc
    async def consume(self, number: int, items: duplex.ReceiveChannel[list[int]]) -> int:
        """Take a stream; return how many items it had."""
        with self.ledger.handling("client stream", number):
            sequence = self.ledger.sequence("client stream", number)
            async for item in items:
                sequence.check(item)
            return sequence.count

    @duplex.rpc
    async def mirror(self, number: int, items: duplex.Channel[list[int], list[int]]) -> None:
        """Send every item back."""
        with self.ledger.handling("bidirectional", number):
            sequence = self.ledger.sequence("bidirectional", number)
            async for item in items:
                sequence.check(item)
                await items.send(item)

    @duplex.rpc
    async def call_back(
        self, number: int, length: int, pause: float, function: duplex.Callback[[list[int]], int]
    ) -> int:
        """Call the caller, again and again; return how often it answered."""
        with self.ledger.handling("callback", number):
            for index in range(length):
                answers = 0
                with self.outcomes.call(CALLBACK, number):
                    await function([number, index])
                    answers = 1
                if not answers:
                    # The outcome is noted; a handler whose caller is gone gets no further.
                    return index
                if pause:
                    await trio.sleep(pause)
            return length

    @duplex.rpc
    async def block(self, number: int, seconds: float) -> int:
        """Hold up the whole event loop, as a handler with a mistake does."""
        with self.ledger.handling("block", number):
            time.sleep(seconds)  # what this method is for
            return number

    @duplex.rpc
    async def hang(self, number: int) -> None:
        """Never return."""
        with self.ledger.handling("hang", number):
            await trio.sleep_forever()

    # -- floods ----------------------------------------------------------------------------------------

    @duplex.rpc(inline=True)
    def tick(self, index: int) -> int:
        """Count a message, and return it to whoever wants to know."""
        self.flood.note(index)
        return index

    @duplex.rpc
    async def tick_each(self, items: duplex.ReceiveChannel[int]) -> int:
        """Count the items of a stream."""
        async for index in items:
            self.flood.note(index)
        return self.flood.came

    @duplex.rpc
    async def ticks(self, count: int) -> AsyncIterator[int]:
        """Stream tiny items."""
        for index in range(count):
            yield index

    # -- readers that do not keep up -------------------------------------------------------------------

    @duplex.rpc
    async def firehose(self, size: int) -> AsyncIterator[bytes]:
        """Stream blocks as fast as they are taken, for ever."""
        block = bytes(size)
        while True:
            yield block
            self.poured += 1

    @duplex.rpc
    async def sip(self, pause: float, items: duplex.ReceiveChannel[Any]) -> None:
        """Take one item, rest, take the next."""
        async for _ in items:
            self.sipped += 1
            await trio.sleep(pause)
