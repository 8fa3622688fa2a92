"""Plain generators: each has a thread and a context for its life.

What a generator holds from one step to the next may belong to the thread or to the context that it runs in: a
connection to sqlite3, a lock that knows its owner, a ``ContextVar`` that is set back at the end. So all its steps, and
its close, run in the same ones. The thread waits while the items are sent; it counts among those that are at work
during a step only, so a stream that nobody reads keeps no other handler from its turn.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable, Generator
from typing import Any, Final, final

import outcome
import trio

from duplex._errors import ResourceExhausted
from duplex.engine._failure import NotBegun
from duplex.engine.threads._deadlines import CLEAN_UP
from duplex.engine.threads._threads import Threads, Unlimited, run_plain

logger = logging.getLogger("duplex")

#: What a generator gives when it has ended.
END_OF_ITEMS: Final = object()


@final
class GeneratorThread:
    """A plain generator, and the thread that it lives in from its first step on.

    Args:
        threads: counts those of the peer.
        generator: what is to be run; nothing of it has run yet.
        host: runs a task of the peer's in the present context, which the generator is to have.
        method: for the log.
    """

    def __init__(
        self,
        threads: Threads,
        generator: Generator[Any, Any, Any],
        host: Callable[..., None],
        method: str,
    ) -> None:
        self._threads = threads
        self._generator = generator
        self._host = host
        self._method = method
        self._run = trio.lowlevel.current_trio_token()
        #: For the thread: whether to make a step, or to close the generator and end.
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._scope = trio.CancelScope()
        self._is_started = False
        self._is_stepping = False
        #: The generator has ended by itself, or was told to.
        self._is_over = False
        #: The link that the thread counts for; set with the first step.
        self._link: object = None
        #: Who waits for a step, or for the end.
        self._task: trio.lowlevel.Task | None = None

    @trio.lowlevel.enable_ki_protection
    async def next(self) -> Any:
        """Make a step; return the next item, or ``END_OF_ITEMS``.

        Cancelled, it leaves the step alone, and :meth:`aclose` is to follow.

        Raises:
            ResourceExhausted: there is no thread for it.
        """
        threads = self._threads
        try:
            await threads.acquire(self)
        except NotBegun as error:
            if not self._is_started:
                raise
            refusal = ResourceExhausted(error.message)
            refusal.retry_after = error.retry_after
            raise refusal from None
        try:
            if self._is_started:
                threads.interpreter.give(self)
            else:
                self._start()
        except BaseException:
            threads.release(self)
            raise
        self._is_stepping = True
        self._orders.put(True)
        return await self._wait()

    async def aclose(self) -> None:
        """Close the generator where it lives, and wait for that, but not if it is in the middle of a step: then it is
        closed after that. The same if closing it takes long. Raises what it raises while it is closed."""
        if not self._is_started:
            self._generator.close()  # nothing of it has run
            return
        if self._is_over:
            return
        self._is_over = True
        self._orders.put(False)
        if not self._is_stepping:
            with trio.move_on_after(CLEAN_UP, shield=True):
                await self._wait()
                return
        self._scope.cancel()

    async def _wait(self) -> Any:
        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._task = trio.lowlevel.current_task()
        return await trio.lowlevel.wait_task_rescheduled(abort)

    # -- its thread ------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._link = self._threads.keep_for_generator()
        self._is_started = True
        self._host(self._hold_thread, name="duplex generator")

    async def _hold_thread(self) -> None:
        """Be the task that the thread belongs to, for :mod:`trio.from_thread`."""
        if self._is_over:
            # It was given up before this task came to run, so there is no thread, and nothing of it has run.
            self._stepped(outcome.Value(END_OF_ITEMS), True)
            self._threads.generator_ended(self._link)
            return
        self._threads.interpreter.give(self)
        with self._scope:
            try:
                await trio.to_thread.run_sync(self._live, limiter=Unlimited(), abandon_on_cancel=True)  # type: ignore[arg-type]
            except RuntimeError as error:
                # There are no more threads in this process. Nothing of the generator's comes here.
                self._stepped(outcome.Error(error), True)
                self._threads.generator_ended(self._link)

    def _live(self) -> None:
        generator = self._generator
        while self._orders.get():
            self._threads.interpreter.begin(self)
            ended = outcome.capture(run_plain, next, (generator, END_OF_ITEMS), {})
            is_last = isinstance(ended, outcome.Error) or ended.value is END_OF_ITEMS
            self._tell(self._stepped, ended, is_last)
            if is_last:
                break
            del ended  # an idle thread must not keep the item
        self._tell(self._closed, outcome.capture(run_plain, generator.close, (), {}))

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._run.run_sync_soon(function, *args)

    # -- on the event loop -----------------------------------------------------------------------------

    def _stepped(self, ended: outcome.Outcome[Any], is_last: bool) -> None:
        self._is_stepping = False
        self._is_over |= is_last
        self._threads.interpreter.end(self)
        self._threads.release(self)
        self._wake(ended)

    def _closed(self, ended: outcome.Outcome[None]) -> None:
        self._threads.generator_ended(self._link)
        if not self._wake(ended) and isinstance(ended, outcome.Error):
            logger.error("the generator of %s failed while it was closed", self._method, exc_info=ended.error)

    def _wake(self, ended: outcome.Outcome[Any]) -> bool:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, ended)
        return task is not None
