"""The runtime of peers that stand on trio; a module of its own, because the servers of the others do not import trio."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from benchmarks.peers import _runtimes
from benchmarks.peers._runtimes import Due, Open, Record, T, Work
from benchmarks.peers._timer import Timer


class Trio:
    """Tasks of trio."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return trio.run(main)

    async def together(self, works: Sequence[Work]) -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    async def keep(self, stack: AsyncExitStack, opens: Sequence[Open[T]]) -> list[T]:
        # Each in a task of its own, as in a program: a thousand nurseries within one another are slow.
        async def one(open_: Open[T], *, task_status: trio.TaskStatus[T]) -> None:
            async with open_() as opened:
                task_status.started(opened)
                await trio.sleep_forever()

        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        return [await nursery.start(one, open_) for open_ in opens]

    async def paced(self, work: Work, rate: float, seconds: float, record: Record) -> None:
        timer = Timer()
        free = trio.Semaphore(_runtimes.AT_ONCE)
        begin = time.perf_counter() + 0.01
        due = Due(begin, rate, seconds)

        async def one(moment: float) -> None:
            try:
                await work()
            finally:
                record(time.perf_counter() - moment)
                free.release()

        try:
            with trio.move_on_after(seconds + _runtimes.PATIENCE):
                async with trio.open_nursery() as nursery:
                    for moment in due:
                        if timer.arm(moment):
                            await trio.lowlevel.wait_readable(timer.fd)
                            timer.clear()
                        await _acquire(free)
                        due.begun += 1
                        nursery.start_soon(one, moment)
            due.record_rest(record)
        finally:
            timer.close()


async def _acquire(free: trio.Semaphore) -> None:
    """Take a place; without a checkpoint, of which each call would have two, where there is one."""
    try:
        free.acquire_nowait()
    except trio.WouldBlock:
        await free.acquire()
