"""A thread with an owner: one, for what blocks and must happen in order."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar, TypeVarTuple, Unpack

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class OwnedThread:
    """Runs functions, one after the other."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Run a function there and return what it returns, or raise what it raises.

        This cannot be cancelled: what runs in a thread cannot be taken back.
        """
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        results: list[T] = []
        errors: list[BaseException] = []

        def job() -> None:
            try:
                results.append(function(*arguments))
            except BaseException as error:
                errors.append(error)
            token.run_sync_soon(done.set)

        self._jobs.put(job)
        with trio.CancelScope(shield=True):
            await done.wait()
        if errors:
            raise errors.pop()
        return results[0]

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()

    def stop(self) -> None:
        """End the thread, which has nothing to do any more."""
        self._jobs.put(None)
        self._thread.join()


@contextlib.asynccontextmanager
async def owned_thread(name: str) -> AsyncGenerator[OwnedThread]:
    """Own a thread for a block."""
    thread = OwnedThread(name)
    try:
        yield thread
    finally:
        thread.stop()
