"""What the servers of the soak offer: one method of every kind, each checking what it can.

A server that is told the same thing twice says so: every call that matters carries a name which no other
call has, and the last many of those are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import trio

import duplex

#: Names of calls that a server remembers: many more than can be under way, and full long before the warm-up ends.
REMEMBERED: Final = 2000

soak = duplex.Service("soak")


class Seen:
    """The last many names, and those that came twice."""

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self._names: set[str] = set()
        self.twice: list[str] = []

    def note(self, name: str) -> None:
        """Remember a name."""
        if name in self._names:
            self.twice.append(name)
            return
        self._names.add(name)
        self._order.append(name)
        if len(self._order) > REMEMBERED:
            self._names.discard(self._order.popleft())


seen: Final = Seen()


@soak.rpc
async def echo(name: str, value: Any) -> Any:
    """Return a value as it came."""
    seen.note(name)
    return value


@soak.rpc(inline=True)
def note(name: str) -> None:
    """Take a notification."""
    seen.note(name)


@soak.rpc
async def refuse(name: str) -> None:
    """Fail with a status of the application's own."""
    seen.note(name)
    raise duplex.Aborted("as asked", details=[name])


@soak.rpc
async def hang() -> None:
    """Never return."""
    await trio.sleep_forever()


@soak.rpc
async def numbers(count: int, size: int) -> AsyncIterator[tuple[int, bytes]]:
    """Count, with some bytes each."""
    for number in range(count):
        yield number, bytes(size)


@soak.rpc
async def total(items: duplex.ReceiveChannel[int], stop_after: int) -> int:
    """Return how many items came; they count from 0."""
    count = 0
    async for item in items:
        if item != count:
            raise duplex.DataLoss(f"{item} came instead of {count}")
        count += 1
        if count == stop_after:
            break
    return count


@soak.rpc
async def mirror(items: duplex.Channel[Any, Any]) -> None:
    """Send back what comes."""
    async for item in items:
        await items.send(item)


@soak.rpc
async def apply(function: duplex.Callback[[int], int], times: int) -> list[int]:
    """Call the caller back so many times."""
    return [await function(number) for number in range(times)]


@soak.rpc
async def pump(source: duplex.ReceiveChannel[int], sink: duplex.SendChannel[int]) -> int:
    """Carry items from one channel to another."""
    count = 0
    async for item in source:
        await sink.send(item)
        count += 1
    return count
