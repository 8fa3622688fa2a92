"""The service that the documentation talks about: one method of every kind.

Serve it with ``duplex serve examples/calc.py --bind tcp://127.0.0.1:7700``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator

import trio

import duplex

calc = duplex.Service("calc", version="1.0.0", description="Arithmetic, one method of every kind.")

_naps = 0


@calc.rpc
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@calc.rpc
async def count(upto: int) -> AsyncIterator[int]:
    """Count from 0 up to, but not including, a number."""
    for number in range(upto):
        yield number


@calc.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    """Add up a stream of numbers."""
    return sum([number async for number in numbers])


@calc.rpc
async def shout(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
    """Return every word in capitals, as it comes."""
    async for word in words:
        yield word.upper()


@calc.rpc
async def each(items: list[int], visit: duplex.Callback[[int], None]) -> None:
    """Call a function of the caller's with every item."""
    for item in items:
        await visit(item)


@calc.rpc
async def divisors(number: int, found: duplex.SendChannel[int]) -> int:
    """Send the divisors of a number down a channel of the caller's, and return how many there are."""
    count = 0
    async with found:
        for candidate in range(1, number + 1):
            if number % candidate == 0:
                await found.send(candidate)
                count += 1
    return count


@calc.rpc
async def second_opinion(a: int, b: int) -> bool:
    """Let the caller's own service ``calc`` add two numbers, and tell whether it gets the same."""
    theirs = duplex.current_call().link.service("calc")
    return bool(await theirs.add(a, b) == a + b)


@calc.rpc(inline=True)
def divide(a: float, b: float = 1.0) -> float:
    """Divide a by b. A plain function, quick enough to run on the event loop.

    Raises InvalidArgument if b is 0.
    """
    if b == 0:
        raise duplex.InvalidArgument("b must not be 0", details={"field": "b", "value": b})
    return a / b


@calc.rpc
async def constant(name: str) -> float:
    """Return a mathematical constant.

    Raises NotFound, whose details list the names there are.
    """
    constants = {"pi": 3.141592653589793, "e": 2.718281828459045}
    if name not in constants:
        raise duplex.NotFound(f"no constant is named {name!r}", details={"known": sorted(constants)})
    return constants[name]


@calc.rpc
def crash() -> None:
    """Fail as programs do: the caller learns an incident id, the log has the traceback."""
    raise RuntimeError("the answer was not 42")


@calc.rpc
async def nap(seconds: float) -> str:
    """Do nothing for a while, to try deadlines and cancellation on."""
    global _naps
    _naps += 1
    try:
        await trio.sleep(seconds)
    finally:
        _naps -= 1
    return "slept well"


@calc.rpc
async def naps() -> int:
    """Return how many naps are being taken."""
    await trio.lowlevel.checkpoint()  # naps that begin or end just now have done so by then
    return _naps


if importlib.util.find_spec("numpy"):  # it is an extra: duplex-rpc[numpy]
    import numpy as np
    import numpy.typing as npt

    @calc.rpc
    async def scale(array: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
        """Multiply an array by a number. Large arrays travel without being copied."""
        return array * factor
