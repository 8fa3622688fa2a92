"""The service ``conformance``, as ``spec/scenarios/README.md`` specifies it: what scenarios call.

``duplex serve duplex.conformance:service`` serves it. It holds itself to the public API, because it stands for
the handlers that anybody writes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import trio

import duplex

#: The marks that are kept, the newest: scenarios name theirs at random, so an old one is never asked for again.
MAX_MARKS: Final = 4096


class Marks:
    """Things that have happened, by name; a call that asks for one waits until it has."""

    def __init__(self) -> None:
        self._set: OrderedDict[str, None] = OrderedDict()
        self._changed = trio.Condition()

    async def set(self, key: str) -> None:
        """Note that it has happened. Works in a cancelled handler too."""
        with trio.CancelScope(shield=True):
            async with self._changed:
                self._set[key] = None
                while len(self._set) > MAX_MARKS:
                    self._set.popitem(last=False)
                self._changed.notify_all()

    async def wait(self, key: str) -> None:
        """Return once it has happened."""
        async with self._changed:
            while key not in self._set:
                await self._changed.wait()


def make_service() -> duplex.Service:
    """Make the service, with a memory of its own."""
    service = duplex.Service("conformance", version="1.0.0")
    marks: list[Marks] = []

    def memory() -> Marks:
        # Not before it is needed: trio's primitives belong to the run that uses them.
        if not marks:
            marks.append(Marks())
        return marks[0]

    _add_values(service)
    _add_streams(service)
    _add_marks(service, memory)
    _add_live_values(service)
    return service


def _add_values(service: duplex.Service) -> None:
    @service.rpc
    async def methods() -> list[str]:
        """The methods of this service that this implementation offers."""
        return sorted(service.methods)

    @service.rpc
    async def echo(value: Any) -> Any:
        """Return the value."""
        return value

    @service.rpc
    async def subtract(a: int, b: int) -> int:
        """Return the difference."""
        return a - b

    @service.rpc
    async def nothing() -> None:
        """Return nil."""

    @service.rpc
    async def fail(code: int, message: str, details: Any = None) -> None:
        """Fail with this outcome."""
        raise duplex.RPCError(message, code=duplex.StatusCode(code), details=details)

    @service.rpc
    async def crash() -> None:
        """Fail as by a defect of the handler."""
        raise ZeroDivisionError("the text of an unexpected failure")

    @service.rpc
    async def metadata() -> dict[str, Any]:
        """Return the metadata of this call."""
        return dict(duplex.current_call().metadata)

    @service.rpc
    async def trailers(trailers: dict[str, Any]) -> None:
        """Succeed with these trailers."""
        duplex.current_call().trailers.update(trailers)


def _add_streams(service: duplex.Service) -> None:
    @service.rpc
    async def count(upto: int) -> AsyncIterator[int]:
        """Send the numbers from 0."""
        for number in range(upto):
            yield number

    @service.rpc
    async def total(numbers: duplex.ReceiveChannel[int]) -> int:
        """Return the sum of a stream."""
        return sum([number async for number in numbers])

    @service.rpc
    async def sink(items: duplex.ReceiveChannel[Any]) -> int:
        """Return how many items a stream has."""
        return len([None async for _ in items])

    @service.rpc
    async def mirror(items: duplex.ReceiveChannel[Any]) -> AsyncIterator[Any]:
        """Send back each item as it comes."""
        async for item in items:
            yield item

    @service.rpc
    async def stall(items: duplex.ReceiveChannel[Any]) -> None:
        """Take no item, until the call is cancelled."""
        await trio.sleep_forever()


def _add_marks(service: duplex.Service, memory: Callable[[], Marks]) -> None:
    @service.rpc
    async def hold(key: str = "", begun: str = "") -> None:
        """Set the mark ``begun``, run until the call is cancelled, and then set the mark ``key``."""
        if begun:
            await memory().set(begun)
        try:
            await trio.sleep_forever()
        finally:
            await memory().set(key)

    @service.rpc
    async def mark(key: str) -> None:
        """Set the mark."""
        await memory().set(key)

    @service.rpc
    async def mark_and_hold(key: str) -> None:
        """Set the mark, and run until the call is cancelled."""
        await memory().set(key)
        await trio.sleep_forever()

    @service.rpc
    async def marked(key: str) -> bool:
        """Return true once the mark is set."""
        await memory().wait(key)
        return True


def _add_live_values(service: duplex.Service) -> None:
    @service.rpc
    async def call_back(callback: duplex.Callback[[Any], Any], value: Any) -> Any:
        """Call the caller's function and return its result, or fail as it does."""
        try:
            return await callback(value)
        except duplex.RPCError as error:
            # What a handler's own call came to is not by itself what the handler comes to.
            raise duplex.RPCError(error.message, code=error.code, details=error.details) from None

    @service.rpc
    async def make_callback() -> duplex.Callback[[int], int]:
        """Return a function that doubles a number."""

        async def double(number: int) -> int:
            return 2 * number

        return double

    @service.rpc
    async def fill(channel: duplex.SendChannel[int], upto: int) -> None:
        """Send the numbers from 0 into the caller's channel, and end it."""
        async with channel:
            for number in range(upto):
                await channel.send(number)

    @service.rpc
    async def drain(first: duplex.ReceiveChannel[int], second: duplex.ReceiveChannel[int]) -> list[int]:
        """Return the sums of two channels of the caller's."""
        return [sum([number async for number in channel]) for channel in (first, second)]

    @service.rpc
    async def numbers(upto: int) -> trio.abc.ReceiveChannel[int]:
        """Return a channel that gives the numbers from 0."""
        send, receive = trio.open_memory_channel[int](upto)
        async with send:
            for number in range(upto):
                await send.send(number)
        return receive


#: What ``duplex serve duplex.conformance:service`` serves.
service: Final = make_service()
