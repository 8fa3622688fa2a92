"""What runs the coroutines of clients: asyncio, threads, greenlets; and trio, in :mod:`benchmarks.peers._trio`.

Scenarios are written once, as coroutines. Where a peer blocks, its coroutines never suspend; they are then
driven to their end, one in each thread (or greenlet).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Protocol, TypeVar

from benchmarks.peers._timer import Timer

T = TypeVar("T")
Work = Callable[[], Awaitable[None]]
Record = Callable[[float], None]
Open = Callable[[], AbstractAsyncContextManager[T]]

#: Calls of an open loop that may be under way; the others wait for their turn, and their clocks run.
AT_ONCE: Final = 1024
#: Threads of an open loop, where calls block.
THREADS: Final = 128
#: Seconds after which an open loop that is late gives up on what has not been done.
PATIENCE: Final = 1.0


class Runtime(Protocol):
    """See the module."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function from the outside."""

    async def together(self, works: Sequence[Work]) -> None:
        """Do all at once, and wait for all."""

    async def keep(self, stack: AsyncExitStack, opens: Sequence[Open[T]]) -> list[T]:
        """Open context managers, which stay open until the stack is closed, and return what they give."""

    async def paced(self, work: Work, rate: float, seconds: float, record: Record) -> None:
        """Begin ``work`` at fixed times, ``rate`` of them a second.

        ``record`` is told how long after the time at which it should have begun each was done. What is not
        done :data:`PATIENCE` seconds after the end is cancelled, or not begun, and recorded as if it had been
        done then: its latency is at least that.
        """


class Asyncio:
    """Tasks of asyncio.

    Args:
        around: an async context manager within which everything runs.
    """

    def __init__(self, around: Callable[[], Any] = contextlib.nullcontext) -> None:
        self._around = around

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def within() -> T:
            async with self._around():
                return await main()

        return asyncio.run(within())

    async def together(self, works: Sequence[Work]) -> None:
        await asyncio.gather(*(work() for work in works))

    async def keep(self, stack: AsyncExitStack, opens: Sequence[Open[T]]) -> list[T]:
        return [await stack.enter_async_context(open_()) for open_ in opens]

    async def paced(self, work: Work, rate: float, seconds: float, record: Record) -> None:
        timer = Timer()
        free = asyncio.Semaphore(AT_ONCE)
        begin = time.perf_counter() + 0.01
        due = Due(begin, rate, seconds)
        loop = asyncio.get_running_loop()
        awake = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        failures: list[Exception] = []
        given_up = False

        async def one(moment: float) -> None:
            try:
                await work()
            except Exception as error:  # handed to the caller of this function
                if not given_up:  # some stacks have errors of their own for a call that is cancelled
                    failures.append(error)
            finally:
                record(time.perf_counter() - moment)
                free.release()

        def wake() -> None:
            timer.clear()
            awake.set()

        loop.add_reader(timer.fd, wake)
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                for moment in due:
                    if failures:
                        break
                    if timer.arm(moment):
                        awake.clear()
                        await awake.wait()
                    await free.acquire()
                    due.begun += 1
                    task = asyncio.create_task(one(moment))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                while tasks:
                    await asyncio.wait(tasks)
        except TimeoutError:
            given_up = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            loop.remove_reader(timer.fd)
            timer.close()
        if failures:
            raise failures[0]
        due.record_rest(record)


class Threads:
    """A thread for each coroutine, for peers that block."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return drive(main())

    async def together(self, works: Sequence[Work]) -> None:
        failures: list[BaseException] = []

        def do(work: Work) -> None:
            try:
                drive(work())
            except BaseException as error:  # handed to the caller of this function
                failures.append(error)

        self._spawn_and_join([(do, work) for work in works])
        if failures:
            raise failures[0]

    async def keep(self, stack: AsyncExitStack, opens: Sequence[Open[T]]) -> list[T]:
        return [await stack.enter_async_context(open_()) for open_ in opens]

    async def paced(self, work: Work, rate: float, seconds: float, record: Record) -> None:
        begin = time.perf_counter() + 0.01
        turns = itertools.count()
        total = int(rate * seconds)
        lock = threading.Lock()

        async def worker() -> None:
            while (turn := next(turns)) < total:
                moment = begin + turn / rate
                early = moment - time.perf_counter()
                if early > 0:
                    self._sleep(early)
                if time.perf_counter() < begin + seconds + PATIENCE:
                    await work()
                latency = time.perf_counter() - moment
                with lock:
                    record(latency)

        await self.together([worker] * THREADS)

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _spawn_and_join(self, jobs: Sequence[tuple[Callable[[Work], None], Work]]) -> None:
        threads = [threading.Thread(target=do, args=(work,), daemon=True) for do, work in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class Greenlets(Threads):
    """A greenlet of gevent for each coroutine."""

    def _sleep(self, seconds: float) -> None:
        import gevent

        timer = Timer()
        try:
            if timer.arm(time.perf_counter() + seconds):
                hub = gevent.get_hub()
                hub.wait(hub.loop.io(timer.fd, 1))
        finally:
            timer.close()

    def _spawn_and_join(self, jobs: Sequence[tuple[Callable[[Work], None], Work]]) -> None:
        import gevent

        gevent.joinall([gevent.spawn(do, work) for do, work in jobs])


class Due:
    """The moments at which the calls of an open loop should begin, and how many have begun."""

    def __init__(self, begin: float, rate: float, seconds: float) -> None:
        self._moments = [begin + turn / rate for turn in range(int(rate * seconds))]
        self.begun = 0

    def __iter__(self) -> Any:
        return iter(self._moments)

    def record_rest(self, record: Record) -> None:
        """Record those that have not begun as if they had ended now."""
        now = time.perf_counter()
        for moment in self._moments[self.begun :]:
            record(max(0.0, now - moment))


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a peer that blocks has suspended a coroutine")
