"""No end overtakes what came before it between two processes on a machine whose cores are all busy: there a result
often comes in one message with all that was sent before it, and before the task that is to take it has begun."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import collect, outcome, process

#: Of each kind. Without what this is about, one in ten or so loses items.
CALLS = 60

ITEMS = list(range(6))


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core of the machine busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


async def _fill(remote: Any) -> Any:
    sink, source = trio.open_memory_channel[int](10)
    assert await remote.fill(sink, 6) == 6
    return await collect(source)


async def _fill_opened(remote: Any) -> Any:
    sink, source = trio.open_memory_channel[int](2)
    async with remote.fill.open(sink, 6) as call:
        assert await call.result() == 6
    return await collect(source)


async def _fill_and_fail(remote: Any) -> Any:
    sink, source = trio.open_memory_channel[int](10)
    assert type(await outcome(remote.fill_and_fail(sink, 6))) is duplex.NotFound
    return await collect(source)


async def _gather(remote: Any) -> Any:
    ends = [trio.open_memory_channel[int](10) for _ in range(2)]
    for number in ITEMS:
        ends[number // 3][0].send_nowait(number)
    for sink, _ in ends:
        sink.close()
    return await remote.gather(ends[0][1], ends[1][1])


async def _count(remote: Any) -> Any:
    async with remote.count.open(6) as call:
        return await collect(call)


async def _each(remote: Any) -> Any:
    visited: list[int] = []
    assert await remote.each(6, visited.append) == 6
    return visited


async def _produce(remote: Any) -> Any:
    async with remote.produce.open(6) as call:
        return await collect(await call.result())


@pytest.mark.slow
async def test_everything_arrives_on_a_busy_machine() -> None:
    wrong = []
    with process("tests.engine.serve_channels", "tcp://127.0.0.1:*") as (_, endpoint), busy_cores():
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            remote = client.service("quick")
            for _ in range(CALLS):
                for make in (_fill, _fill_opened, _fill_and_fail, _gather, _count, _each, _produce):
                    items = await make(remote)
                    if items != ITEMS:
                        wrong.append((make.__name__, items))
    assert wrong == []
