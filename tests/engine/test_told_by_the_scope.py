"""Who sets a deadline is told by that one that it has passed, also if the other side says so first.

On a busy machine the answer of the other side, "the deadline passed", and the deadline itself are there in the same pass
of the event loop. Then it is chance which of the two comes first, but not what the caller sees.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import process
from tests.machine import fail_after

#: Seconds of the deadline, and for how long the caller's event loop then stands still.
DEADLINE = 0.2
STANDSTILL = 0.6


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with process("tests.engine.serve_naps") as (_, endpoint):
        yield endpoint


@pytest.fixture
async def naps(endpoint: str) -> AsyncIterator[duplex.ServiceProxy]:
    async with duplex.open_peer() as peer:
        await peer.connect(endpoint)
        yield peer.service("naps")


async def stand_still() -> None:
    """Let nothing else run from shortly before the deadline until the other side has surely answered."""
    await trio.sleep(DEADLINE / 2)
    time.sleep(STANDSTILL)  # the point: this process gets no time


async def await_it(naps: Any) -> None:
    await naps.nap()


async def lead_and_await_it(naps: Any) -> None:
    """The same for a caller that receives from the socket itself, as those do that make one call after the other."""
    for _ in range(50):
        await naps.rest()
    await naps.nap()


async def iterate(naps: Any) -> None:
    async with naps.stream.open() as items:
        async for _ in items:
            pass


async def receive(naps: Any) -> None:
    async with naps.stream.open() as items:
        while True:
            await items.receive()


async def result(naps: Any) -> None:
    async with naps.nap.open() as call:
        await call.result()


async def send(naps: Any) -> None:
    async with naps.swallow.open() as call:
        while True:
            await call.send(bytes(100_000))


MANNERS = [await_it, lead_and_await_it, iterate, receive, result, send]


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_scope(naps: duplex.ServiceProxy, manner: Callable[[Any], Awaitable[None]]) -> None:
    with fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_still)
            with trio.move_on_after(DEADLINE) as scope:
                await manner(naps)
            assert scope.cancelled_caught


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_timeout(naps: duplex.ServiceProxy, manner: Callable[[Any], Awaitable[None]]) -> None:
    limited = naps.with_options(timeout=DEADLINE)
    with fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_still)
            with pytest.raises(duplex.DeadlineExceeded, match=r"the call did not end within 0\.2 s"):
                await manner(limited)
