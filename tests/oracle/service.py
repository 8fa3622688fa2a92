"""What every process of the oracle offers: a method of every manner, each of which keeps its journal.

The first argument is the name of the call, which no other has. Calls that a handler makes of its caller, and of its
callbacks, are named after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio

import duplex
from tests.oracle.journal import BROKEN, Journal


def answer(name: str, value: Any) -> list[Any]:
    """What ``echo`` and its like return."""
    return [name, value]


def make_service(name: str, journal: Journal) -> duplex.Service:
    """Return the service of a process."""
    service = duplex.Service(name)
    running = journal.running

    # -- one answer --------------------------------------------------------------------------------------

    @service.rpc
    async def echo(name: str, value: Any) -> list[Any]:
        with running(name):
            if len(name) % 2:
                await trio.lowlevel.checkpoint()
            return answer(name, value)

    @service.rpc
    def threaded(name: str, value: Any) -> list[Any]:
        with running(name):
            return answer(name, value)

    @service.rpc(inline=True)
    def inline(name: str, value: Any) -> list[Any]:
        with running(name):
            return answer(name, value)

    @service.rpc
    async def fail(name: str, unexpectedly: bool) -> None:
        with running(name):
            if unexpectedly:
                raise ValueError(name)
            raise duplex.Aborted("as asked", details=[name])

    @service.rpc
    async def slow(name: str, seconds: float) -> list[Any]:
        with running(name):
            await trio.sleep(seconds)  # work that takes a while
            return answer(name, None)

    @service.rpc
    def slow_thread(name: str, seconds: float) -> list[Any]:
        with running(name):
            time.sleep(seconds)  # the same, where it cannot be interrupted
            return answer(name, None)

    @service.rpc(inline=True)
    def note(name: str) -> None:
        with running(name):
            pass

    # -- streams -----------------------------------------------------------------------------------------

    @service.rpc
    async def numbers(name: str, count: int, size: int) -> AsyncIterator[tuple[int, bytes]]:
        with running(name):
            for number in range(count):
                yield number, bytes(size)

    @service.rpc
    def steps(name: str, count: int) -> Iterator[int]:
        with running(name):
            yield from range(count)

    @service.rpc(resumable=True)
    async def follow(name: str, count: int, *, cursor: int = -1) -> AsyncIterator[duplex.Tracked[int, int]]:
        with running(name):
            for number in range(cursor + 1, count):
                yield duplex.Tracked(number, number)

    @service.rpc
    async def total(name: str, count: int, items: duplex.ReceiveChannel[int]) -> int:
        """The end of the caller's items is only seen where they have all been seen."""
        with running(name):
            came = [item async for item in items]
            journal.expect(
                name, came == list(range(count)), f"{count} items were sent, and then their end; {came} came"
            )
            return len(came)

    @service.rpc
    async def shout(name: str, count: int, items: duplex.ReceiveChannel[int]) -> AsyncIterator[int]:
        with running(name):
            came = 0
            async for item in items:
                yield -item
                came += 1
            journal.expect(name, came == count, f"{count} items were sent, and then their end; {came} came")

    @service.rpc
    async def mirror(name: str, count: int, channel: duplex.Channel[int, int]) -> None:
        with running(name):
            came = 0
            async for item in channel:
                await channel.send(-item)
                came += 1
            journal.expect(name, came == count, f"{count} items were sent, and then their end; {came} came")

    # -- functions and channels as values ----------------------------------------------------------------

    @service.rpc
    async def apply(name: str, times: int, function: duplex.Callback[[str, int], int]) -> int:
        with running(name):
            result = 0
            for number in range(times):
                called = f"{name}/{number}"
                with journal.asking(called, "callback"):
                    result += await function(called, number)
            return result

    @service.rpc
    def apply_thread(name: str, times: int, function: duplex.Callback[[str, int], int]) -> int:
        with running(name):
            result = 0
            for number in range(times):
                called = f"{name}/{number}"
                with journal.asking(called, "callback"):
                    result += trio.from_thread.run(function, called, number)
            return result

    @service.rpc
    async def back(name: str, caller: str, depth: int) -> int:
        """Call the caller, which calls back in turn, so many times in all."""
        with running(name):
            if not depth:
                return 0
            called = f"{name}/b"
            remote = duplex.current_call().link.service(caller)
            with journal.asking(called, "back"):
                return 1 + int(await remote.back(called, service.name, depth - 1))

    @service.rpc
    async def fill(name: str, count: int, sink: duplex.SendChannel[int]) -> int:
        with running(name):
            for number in range(count):
                await sink.send(number)
            return count

    @service.rpc
    def fill_thread(name: str, count: int, sink: duplex.SendChannel[int]) -> int:
        with running(name):
            for number in range(count):
                trio.from_thread.run(sink.send, number)
            return count

    @service.rpc
    async def drain(name: str, source: duplex.ReceiveChannel[int]) -> list[int]:
        with running(name):
            return [item async for item in source]

    @service.rpc
    async def pump(name: str, source: duplex.ReceiveChannel[int], sink: duplex.SendChannel[int]) -> int:
        with running(name):
            count = 0
            async for item in source:
                await sink.send(item)
                count += 1
            return count

    @service.rpc
    async def produce(name: str, count: int) -> trio.abc.ReceiveChannel[int]:
        with running(name):
            sink, source = trio.open_memory_channel[int](math.inf)
            with sink:
                for number in range(count):
                    sink.send_nowait(number)
            return source

    @service.rpc
    async def relay(name: str, outer: duplex.ReceiveChannel[Any]) -> list[list[int]]:
        """Receive what comes over the channels that come over a channel."""
        with running(name):
            return [[item async for item in inner] async for inner in outer]

    @service.rpc
    async def deliver(name: str, count: int, outer: duplex.SendChannel[Any]) -> int:
        """Send channels over a channel, and items over those."""
        with running(name):
            for number in range(count):
                sink, source = trio.open_memory_channel[int](math.inf)
                with sink:
                    for item in range(number):
                        sink.send_nowait(item)
                try:
                    await outer.send(source)
                except BROKEN:
                    source.close()
                    raise
            return count

    return service
