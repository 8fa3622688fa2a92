"""Threads for handlers that are plain functions: how many run at once, and why none waits without end.

A handler in a thread may call in turn, and wait for somebody who calls back, for whom a thread is needed here. If all
of them wait so, each would wait for one that the others hold. So while threads wait for calls of their own and nothing
moves, one more may begin at a time; the newest first, because those that are waited for came last. There are bounds to
that as well, and what is beyond them is refused.

Links share them as they share handlers (:mod:`duplex.engine.serving._admission`): one alone may have nearly all, and what comes
free is for the link that has the fewest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, final

import outcome
import trio

from duplex._errors import ResourceExhausted
from duplex.engine._failure import NotBegun
from duplex.engine._shares import PUSH_BACK, may_hold_more
from duplex.engine.threads._deadlines import WaitingThreads, in_thread, served_call, thread_call
from duplex.engine.threads._interpreter import Interpreter

T = TypeVar("T")

logger = logging.getLogger("duplex")

#: Seconds for which no thread came free, while some wait for calls of their own, until one more may begin.
STILL: Final = 0.05
#: Looks at that, with nothing moving and as many threads more as there may be, until those that wait are refused.
PATIENCE: Final = 100
#: Threads more that there may be, even of a peer that has fewer.
MORE: Final = 16
#: On whose behalf a task waits for a thread, and the link that the call came over.
_Wait: TypeAlias = tuple[object, object]
#: Plain generators for each thread: they keep theirs from item to item, so there are more of them than run at once.
_GENERATORS: Final = 16


def run_plain(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a plain function, in a thread."""
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt as error:
        # Ctrl-C strikes the main thread only, so this one is the function's own, and no reason to end the peer.
        raise RuntimeError("the function raised KeyboardInterrupt in a thread") from error


def wait_rescheduled(abort: Callable[[Any], trio.lowlevel.Abort]) -> Awaitable[Any]:
    """Wait as :func:`trio.lowlevel.wait_task_rescheduled` does; what is returned has to be awaited at once. If a
    handler's thread has to wait so long, that is known to those who wait for a thread."""
    threads = in_thread.get()
    if threads is None:
        return trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105
    return wait_in_thread(threads, trio.lowlevel.wait_task_rescheduled(abort))  # noqa: ASYNC105


async def wait_in_thread(threads: WaitingThreads, awaited: Awaitable[Any]) -> Any:
    """Await what a handler's thread has to wait for, as long as the call goes on that it serves.

    Raises ``CallCancelled`` when that one is over: nobody wants the thread's result any more, and it would keep its
    place for as long as the other side likes.
    """
    serving = thread_call.get()
    threads.call_begins()
    try:
        return await (awaited if serving is None else serving.bounded(awaited))
    finally:
        threads.call_ends()


@final
class Threads:
    """How many plain handlers of one peer run, and who waits to.

    Args:
        most: that run at once, but for what is said above.
        spawn: runs a task of the peer's.
        interpreter: is told of threads that need it.
    """

    def __init__(self, most: int, spawn: Callable[..., None], interpreter: Interpreter) -> None:
        self.most = most
        self.interpreter = interpreter
        self._spawn = spawn
        #: Functions, and steps of generators, that are at work in a thread.
        self.running = 0
        #: Those of them that wait for a call which they made, to anybody.
        self.calling = 0
        #: Generators that keep a thread, at work or not.
        self.generators = 0
        #: How many of them each link has.
        self._kept: dict[object, int] = {}
        #: How many may begin in all, when those that began before wait for calls of their own.
        self._most_beyond = most + max(most, MORE)
        #: Tasks that wait for a thread, in order of arrival, and on whose behalf each one does.
        self._queue: dict[trio.lowlevel.Task, _Wait] = {}
        #: The same by link (ordered sets), and how many each link has of those that run.
        self._waiting: dict[object, dict[trio.lowlevel.Task, None]] = {}
        self._held: dict[object, int] = {}
        #: Whose those are that run.
        self._owners: dict[object, object] = {}
        #: Grows with whatever lets the others go on.
        self._moves = 0
        self._is_watched = False

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return len(self._queue)

    async def acquire(self, borrower: object) -> None:
        """Wait until one more may run.

        Raises:
            ResourceExhausted: all threads wait for calls that they made, and nothing has moved for long.
        """
        link = _served_link()
        held = self._held.get(link, 0)
        # Who has none need not wait until nothing moves: threads that only wait are nobody's turn.
        if may_hold_more(held, self.running, self.most) or (not held and self._may_go_beyond(link)):
            self._begin(borrower, link)
            return
        task = trio.lowlevel.current_task()
        self._queue[task] = borrower, link
        self._waiting.setdefault(link, {})[task] = None
        self._watch_soon()

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._leave_queue(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def release(self, borrower: object) -> None:
        """One has ended."""
        self.running -= 1
        self._moves += 1
        link = self._owners.pop(borrower)
        self._held[link] -= 1
        if not self._held[link]:
            del self._held[link]
        if self._queue:
            if self.running < self.most:
                self._let_in_fairly()
            else:
                # Also when one has ended that began beyond the most: others like it need not wait until nothing moves
                # again.
                self._let_in_newest()

    def _begin(self, borrower: object, link: object) -> None:
        self.running += 1
        self._owners[borrower] = link
        self._held[link] = self._held.get(link, 0) + 1

    def _leave_queue(self, task: trio.lowlevel.Task) -> _Wait:
        borrower, link = self._queue.pop(task)
        waiting = self._waiting[link]
        del waiting[task]
        if not waiting:
            del self._waiting[link]
        return borrower, link

    @property
    def _is_room(self) -> bool:
        """Whether fewer than the most are at work, those apart that wait for calls."""
        return self.running - self.calling < self.most

    def _let_in_fairly(self) -> None:
        """Let begin what may: first the oldest of the link that has the fewest threads."""
        while self._waiting:
            link = min(self._waiting, key=lambda link: self._held.get(link, 0))
            if not may_hold_more(self._held.get(link, 0), self.running, self.most):
                return
            self._let_in(next(iter(self._waiting[link])))

    def _may_go_beyond(self, link: object) -> bool:
        """Whether one more of a link may begin beyond the most."""
        return self._is_room and may_hold_more(self._held.get(link, 0), self.running, self._most_beyond)

    def _let_in_newest(self) -> bool:
        """Let one more begin beyond the most, if one may: of the link that has the fewest threads the newest, as those
        that began wait for what came after them. Tell whether one did."""
        link = min(self._waiting, key=lambda link: self._held.get(link, 0))
        if not self._may_go_beyond(link):
            return False
        self._let_in(next(reversed(self._waiting[link])))
        return True

    def _let_in(self, task: trio.lowlevel.Task) -> None:
        self._begin(*self._leave_queue(task))
        trio.lowlevel.reschedule(task)

    # -- threads that wait for calls -------------------------------------------------------------------

    def call_begins(self) -> None:
        """A thread waits from now on for a call that it makes."""
        self.calling += 1
        self._watch_soon()

    def call_ends(self) -> None:
        """It goes on."""
        self.calling -= 1
        self._moves += 1

    def _watch_soon(self) -> None:
        if self._queue and self.calling and not self._is_watched:
            self._is_watched = True
            self._spawn(self._watch, name="duplex threads")

    async def _watch(self) -> None:
        """Look whether anything moves, for as long as calls wait for a thread and threads for calls."""
        still = 0
        try:
            while self._queue and self.calling:
                moves = self._moves
                await trio.sleep(STILL)
                if self._moves != moves or not self._queue or not self.calling or not self._is_room:
                    still = 0
                elif self._let_in_newest():
                    pass
                elif (still := still + 1) >= PATIENCE:
                    still = 0
                    self._refuse_all()
        finally:
            self._is_watched = False

    def _refuse_all(self) -> None:
        queue, self._queue, self._waiting = self._queue, {}, {}
        logger.warning(
            "%d calls were refused: %d plain handlers run, %d of them wait for calls that they made, and none ends",
            len(queue),
            self.running,
            self.calling,
        )
        for task in queue:
            trio.lowlevel.reschedule(task, outcome.Error(self.refusal()))

    def refusal(self) -> ResourceExhausted:
        """Return the error of a call that gets no thread."""
        error = NotBegun(
            f"{self.running} plain handlers run at this peer, {self.calling} of them wait for calls that they made, and "
            f"none ends: open it with a higher max_threads, or make handlers that call in turn `async def`"
        )
        error.retry_after = PUSH_BACK
        return error

    # -- generators ------------------------------------------------------------------------------------

    def keep_for_generator(self) -> object:
        """Take a thread for the life of a generator; return the link that has it, for :meth:`generator_ended`.

        Raises:
            ResourceExhausted: there are too many, or the rest is for other links.
        """
        link = _served_link()
        most = _GENERATORS * self.most
        kept = self._kept.get(link, 0)
        if not may_hold_more(kept, self.generators, most):
            error = NotBegun(
                f"{self.generators} plain generators have a thread at this peer, {kept} of them for this link, the limit "
                f"for its max_threads ({self.most}): open it with a higher one, or make them `async def`, which takes no "
                f"thread"
            )
            error.retry_after = PUSH_BACK
            raise error
        self.generators += 1
        self._kept[link] = kept + 1
        return link

    def generator_ended(self, link: object) -> None:
        """The thread of a generator of a link's is free."""
        self.generators -= 1
        self._kept[link] -= 1
        if not self._kept[link]:
            del self._kept[link]


def _served_link() -> object:
    """Return the link of the call that the running handler serves."""
    call = served_call.get(None)
    return None if call is None else call.link


@final
class InThread:
    """What a thread is to call, and the limiter of its :func:`trio.to_thread.run_sync`."""

    __slots__ = ("_function", "_threads")

    def __init__(self, threads: Threads, function: Callable[[], Any]) -> None:
        self._threads = threads
        self._function = function

    def __call__(self) -> Any:
        """Call it, in the thread."""
        self._threads.interpreter.begin(self)
        return self._function()

    async def acquire_on_behalf_of(self, _borrower: object) -> None:
        """Wait until it may run."""
        await self._threads.acquire(self)
        self._threads.interpreter.give(self)

    def release_on_behalf_of(self, _borrower: object) -> None:
        """It has ended."""
        self._threads.interpreter.end(self)
        self._threads.release(self)


def run_in_thread(threads: Threads, function: Callable[[], T]) -> Awaitable[T]:
    """Run a function in a thread, once there is one for it, and return its result. Cancelled, it leaves the thread alone."""
    call = InThread(threads, function)
    return trio.to_thread.run_sync(call, limiter=call, abandon_on_cancel=True)  # type: ignore[arg-type]


@final
class Unlimited:
    """The limiter of threads that are counted elsewhere."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Take a thread at once."""

    def release_on_behalf_of(self, borrower: object) -> None:
        """Nothing to do."""
