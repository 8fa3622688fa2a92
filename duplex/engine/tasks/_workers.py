"""The tasks that run handlers, and those that receive: the same ones."""

# What a worker does
# ==================
#
# A worker waits to be given a duty. That is either a call to run, or a port to receive from: then it *leads* the port
# (``_leader.py`` says why, and how the leadership passes on).
#
# Everything is measured against the cheapest call, whose handler returns at once. For that one
#
#  * no task is started: a worker that is idle costs half as much to wake as a new one to start;
#  * no task is woken either, if the leader begins the handler itself, by hand: it makes the handler's coroutine and sends it its
#    first ``None`` (``_run_here``). If that ends the coroutine, all is done, and the leader goes on to the next call;
#  * no scope is opened: the worker has one for its life, and the call's deadline is set on it, if it is another than it has.
#
# When the handler does wait, its coroutine has *yielded* something that is meant for trio's loop, and that only a task can
# ask of it. The leader's own task does: from there on it is the handler's task, and drives the coroutine by hand to its
# end (``_go_on``), while another worker leads. This is why the handler sees the same current task before and after.
#
# That was one hand-over too many, for the next worker had to be woken for the port. So a method whose handler has waited is not
# begun by a leader for its next calls (``_waited``), and what is known to wait, streams and threads, never is.
#
# Calls of one link must not overtake one another: those that came in an earlier turn begin first. A call that was handed to
# another worker begins in the next pass of the loop; so until it has, the leader begins none that comes after it over the same
# link (``_handed_over_of``). Those that were handed over in one pass begin in any order. Nor must a call overtake a cancellation
# (``keep_order``): a task that is cancelled hears of it in the next pass too, so what comes behind over the same link is begun in
# the one after that. (Inline functions belong to the reading of a message, and wait for nobody.)
#
# Nor must the calls of one link hold up those of others. What handlers take is known only when they have run: so the leader looks
# at the clock between one and the next, and leaves what is too much for this turn to the next one (``_put_back``). What other
# workers take is not even known then: so a few calls are handed to them (``MOST_HANDED_OVER``), and the others wait until these
# have begun. Calls wait with their link (``Source.postpone``), and links take turns.

from __future__ import annotations

import contextvars
import functools
import logging
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any, Final, final

import outcome
import trio

from duplex.engine._failure import leaves
from duplex.engine._handler import Flavor
from duplex.engine.tasks._flush import Flusher
from duplex.engine.tasks._job import Job, Source
from duplex.engine.tasks._leader import Behind, Leadership
from duplex.engine.threads import shared
from duplex.transports import Port, Turns

logger = logging.getLogger("duplex")

#: Worker tasks kept waiting for the next call; more exist only while more calls run.
MAX_IDLE_WORKERS: Final = 256
#: Calls that were handed to tasks, up to which more are before these have begun.
MOST_HANDED_OVER: Final = 8
#: What counts as more than one of them, because it takes longer to begin: a plain generator, which gets a thread and a task
#: more, and so many bytes of arguments.
_GENERATOR: Final = 4
_MANY_BYTES: Final = 16 * 1024
#: A method whose handler had to wait is not begun by the task that receives for so many calls.
_CALLS_UNTIL_NEXT_TRY: Final = 64


@final
class Workers:
    """Tasks that run handlers, reused from call to call: starting a task costs twice a hand-over.

    Every worker has one cancel scope for its life. Cancelling a call cancels its worker's scope, which ends
    the worker with it; the deadline of a call is the deadline of the scope while the call runs. So a call
    that is neither cancelled nor late costs no scope.

    Setting a deadline costs trio some microseconds, so the scope keeps that of its last call until the next
    one needs another. A worker that is idle when it passes ends, as one whose call was late does.

    Implements :class:`duplex.engine.tasks._leader.Followers`.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        context: contextvars.Context,
        flusher: Flusher,
        clock: Callable[[], float],
    ) -> None:
        self._nursery = nursery
        self.clock = clock
        self._flusher = flusher
        self._context = context
        self._idle: list[tuple[trio.lowlevel.Task, trio.CancelScope]] = []
        #: Who receives in each series of turns.
        self.leads: dict[Turns, Leadership] = {}
        #: Turns may leave for the next one what can wait; see :meth:`Turns.take`.
        self.lazily = True
        #: A leader is in a turn, and begins the next call that comes itself.
        self._begins_here = False
        #: Calls that came in the turn, for the leader to begin.
        self._arrived: deque[Job] = deque()
        #: Calls that were handed to tasks which have not begun them: what all of them cost, and how many by the links that they
        #: came over.
        self._handed_over = 0
        self._handed_over_of: dict[Source, int] = {}
        #: By method: for how many calls it is not begun by a leader.
        self._waited: dict[str, int] = {}

    async def receive(self, port: Port, turns: Turns) -> None:
        """Receive what comes in some turns of a port until nothing comes any more. For each of its sockets."""
        lead = self.leads[turns] = Leadership(self, self._flusher, port, turns)
        try:
            # At once: what greets the other end must not leave later than the connection is made.
            if self._take(lead):
                self._step_down(lead)
            else:
                self.hand_over(self._arrived)
            await lead.wait_over()
        finally:
            del self.leads[turns]
            for link in lead.backlog:
                self._nursery.start_soon(self._finish, link, name="duplex backlog")

    async def _finish(self, link: Behind) -> None:
        """Act on what came over a link before its connection ended: that counts."""
        try:
            while link.go_on():
                await trio.lowlevel.checkpoint()
        finally:
            link.lose("the peer was closed")  # it is lost already, unless this was cancelled

    def leads_of(self, port: Port) -> list[Leadership]:
        """Return who receives from a port."""
        return [lead for lead in self.leads.values() if lead.port is port]

    def submit(self, call: Job, link: Source) -> None:
        """Run a call that came over a link."""
        if link.cancelled_in >= self._flusher.passes - 1:
            # Who begins in the next pass may be before who is told of a cancellation then.
            if self._has_cancelled(link) and link.postpone(call):
                return
        # Not before what came earlier over the same link.
        elif self._begins_here and (not self._handed_over or link not in self._handed_over_of):
            handler = call.handler
            if handler.flavor is Flavor.ASYNC and (
                handler.method not in self._waited or not self._will_wait(handler.method)
            ):
                self._arrived.append(call)
                return
        if self._handed_over >= MOST_HANDED_OVER and link.postpone(call):
            return
        self._hand_over(call)

    def must_wait(self, link: Source) -> bool:
        """Whether tasks are to begin with what was handed to them, or to be told that a call of the link was cancelled,
        before more that came over it is submitted."""
        return self._handed_over >= MOST_HANDED_OVER or self._has_cancelled(link)

    @property
    def is_behind(self) -> bool:
        """Whether there is more to do for a link than was done in a turn."""
        return any(lead.backlog for lead in self.leads.values())

    def keep_order(self, link: Source) -> None:
        """A call that came over a link has just been cancelled: let none that comes later over the link begin before the
        tasks of that one have run once more."""
        link.cancelled_in = self._flusher.passes

    def _has_cancelled(self, link: Source) -> bool:
        return link.cancelled_in == self._flusher.passes

    def _will_wait(self, method: str) -> bool:
        calls = self._waited[method]
        if calls > 1:
            self._waited[method] = calls - 1
        else:
            del self._waited[method]
        return True

    def _hand_over(self, call: Job) -> None:
        self._handed_over += _cost(call)
        link = call.link
        self._handed_over_of[link] = self._handed_over_of.get(link, 0) + 1
        deadline = inf if call.deadline is None else shared(call.deadline)
        if self._idle:
            task, scope = self._idle.pop()
            # Here, not when the task runs: the last call's deadline could pass in between.
            if scope.deadline != deadline:
                scope.deadline = deadline
            # A context of its own for every call, or what one handler sets would be seen by the next.
            task.context = self._context.copy()
            trio.lowlevel.reschedule(task, outcome.Value(call))
        else:
            self._start(call, deadline)

    def _note_begun(self, call: Job) -> None:
        self._handed_over -= _cost(call)
        link = call.link
        left = self._handed_over_of[link] - 1
        if left:
            self._handed_over_of[link] = left
        else:
            del self._handed_over_of[link]

    def is_current(self, leadership: Leadership) -> bool:
        """See :meth:`Followers.is_current`."""
        return self.leads.get(leadership.turns) is leadership

    def follow(self, leadership: Leadership) -> None:
        """See :meth:`Followers.follow`."""
        if self._idle:
            task, scope = self._idle.pop()
            if scope.deadline != inf:
                scope.deadline = inf
            task.context = self._context.copy()
            trio.lowlevel.reschedule(task, outcome.Value(leadership))
        else:
            self._start(leadership, inf)

    def _start(self, duty: Job | Leadership, deadline: float) -> None:
        self._context.copy().run(
            functools.partial(self._nursery.start_soon, self._work, duty, deadline, name="duplex worker")
        )

    async def _work(self, duty: Job | Leadership, deadline: float) -> None:
        task = trio.lowlevel.current_task()
        #: The method of the call that is run.
        method = [""]

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._idle.remove((task, scope))
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            with trio.CancelScope(deadline=deadline) as scope:
                while True:
                    if isinstance(duty, Leadership):
                        await self._lead(duty, task, scope, method)
                    else:
                        self._note_begun(duty)
                        method[0] = duty.handler.method
                        try:
                            await duty.run(scope)
                        finally:
                            duty.ended()
                    del duty  # an idle worker must not keep it
                    if scope.cancel_called or len(self._idle) >= MAX_IDLE_WORKERS:
                        return
                    self._idle.append((task, scope))
                    duty = await trio.lowlevel.wait_task_rescheduled(abort)
        except (trio.Cancelled, KeyboardInterrupt):
            raise
        except BaseException as error:
            # What a handler raised beside its cancellation: the call was answered already.
            serious, rest = _split(error)
            if rest is not None:
                logger.error("the handler of %s failed while it was cancelled", method[0], exc_info=rest)
            if serious is not None:
                raise serious from None

    @trio.lowlevel.enable_ki_protection
    async def _lead(
        self, lead: Leadership, task: trio.lowlevel.Task, scope: trio.CancelScope, method: list[str]
    ) -> None:
        """Receive, and run what came, until nothing comes any more, another worker has to go on, or room was made for
        a caller."""
        lead.led_by(task)
        turns = lead.turns
        arrived = self._arrived
        try:
            while self._take(lead):
                if scope.deadline != inf and scope.cancel_called:
                    # That of a call which is over, and whose deadline passed when something came.
                    self._step_down(lead)
                    return
                while True:
                    while arrived:
                        call = arrived.popleft()
                        deadline = inf if call.deadline is None else shared(call.deadline)
                        if scope.deadline != deadline:
                            scope.deadline = deadline
                        method[0] = call.handler.method
                        if not await self._run_here(call, lead, task, scope):
                            return
                        if call.was_cut:
                            self._step_down(lead)
                            return
                        del call  # who waits for the next one must not keep it
                        if arrived and lead.is_long():
                            self._put_back(lead)
                    if lead.has_idle_caller and lead.make_room():
                        return
                    if not lead.backlog:
                        await turns.wait()
                        break
                    if not self._go_on(lead):
                        await trio.lowlevel.checkpoint()
                        lead.begin()
                        break
            self.hand_over(self._arrived)
        except trio.Cancelled:
            # Perhaps by the deadline of a call that is over; if it is the peer that ends, its ports end, too.
            if scope.cancel_called and lead.task is task:
                self._step_down(lead)
            raise
        except BaseException as error:
            if lead.task is not task:
                raise
            # The waiting has failed. Nobody would receive from the port any more, and nobody be told.
            lead.fail(error)

    def _step_down(self, lead: Leadership) -> None:
        """Let others receive from the port, and run what has come."""
        lead.pass_on()
        self.hand_over(self._arrived)

    def hand_over(self, calls: deque[Job]) -> None:
        """Have tasks of their own run calls that were submitted, all that are left."""
        while calls:
            self._hand_over(calls.popleft())

    def _put_back(self, lead: Leadership) -> None:
        """Leave calls that have come to a later turn, in which other links have theirs."""
        lead.end()
        arrived = self._arrived
        while arrived:
            call = arrived.pop()
            if not call.link.postpone(call, before=True):
                self._hand_over(call)

    def _take(self, lead: Leadership) -> bool:
        self._begins_here = True
        try:
            return lead.take(False)
        finally:
            self._begins_here = False

    def _go_on(self, lead: Leadership) -> bool:
        """Act on a little more of what has come in earlier turns; tell whether that was done, or is for the next one."""
        if self._handed_over >= MOST_HANDED_OVER:
            return False
        self._begins_here = True
        try:
            return lead.go_on()
        except BaseException as error:
            lead.fail(error)
            return False
        finally:
            self._begins_here = False

    async def _run_here(
        self, call: Job, lead: Leadership, task: trio.lowlevel.Task, scope: trio.CancelScope
    ) -> bool:
        """Run a call in the task that leads; return whether it still does."""
        context = self._context.copy()
        running = call.run(scope)
        try:
            try:
                try:
                    trap = _begin(context, running)
                except StopIteration:
                    return True
                # The handler waits for something.
                self._waited[call.handler.method] = _CALLS_UNTIL_NEXT_TRY
                self._step_down(lead)
                task.context = context
                await _go_on(running, trap)
                return False
            finally:
                call.ended()
        except BaseException:
            if lead.task is task:
                # A fault of ours in one call must not be the end of receiving.
                self._step_down(lead)
            raise


def _cost(call: Job) -> int:
    """Return as how many calls one counts that is handed to a task."""
    return (_GENERATOR if call.handler.flavor is Flavor.SYNC_GENERATOR else 1) + call.size // _MANY_BYTES


@trio.lowlevel.disable_ki_protection
def _begin(context: contextvars.Context, running: Coroutine[Any, Any, None]) -> Any:
    """Run a coroutine until it ends (``StopIteration``) or waits; return what it asks of trio then."""
    return context.run(running.send, None)


@types.coroutine
@trio.lowlevel.disable_ki_protection
def _go_on(running: Coroutine[Any, Any, None], trap: Any) -> Generator[Any, Any, None]:
    """Ask that of trio, and run the rest of the coroutine."""
    while True:
        try:
            answer = yield trap
        except BaseException as error:
            step = functools.partial(running.throw, error)
        else:
            step = functools.partial(running.send, answer)
        try:
            trap = step()
        except StopIteration:
            return


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split what a handler raised into what must go on and what ends here."""
    if not isinstance(error, BaseExceptionGroup):
        return None, error
    found = leaves(error)
    serious = [leaf for leaf in found if isinstance(leaf, (trio.Cancelled, KeyboardInterrupt))]
    # A group of our own: one of the application's class may not be able to make another of itself.
    return (
        BaseExceptionGroup("what ends a worker", serious) if serious else None,
        error if len(serious) < len(found) else None,
    )
