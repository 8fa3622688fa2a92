"""The tasks that run handlers."""

from __future__ import annotations

import contextvars
import functools
import logging
import math
from typing import TYPE_CHECKING, Any, Final, final

import outcome
import trio

if TYPE_CHECKING:
    from duplex.engine._admission import Admission
    from duplex.engine._serve import IncomingCall

logger = logging.getLogger("duplex")

#: Worker tasks kept waiting for the next call; more exist only while more calls run.
MAX_IDLE_WORKERS: Final = 256


@final
class Workers:
    """Tasks that run handlers, reused from call to call: starting a task costs twice a hand-over.

    Every worker has one cancel scope for its life. Cancelling a call cancels its worker's scope, which ends
    the worker with it; the deadline of a call is the deadline of the scope while the call runs. So a call
    that is neither cancelled nor late costs no scope.

    Setting a deadline costs trio some microseconds, so the scope keeps that of its last call until the next
    one needs another. A worker that is idle when it passes ends, as one whose call was late does.
    """

    def __init__(self, nursery: trio.Nursery, context: contextvars.Context, admission: Admission) -> None:
        self._nursery = nursery
        self._admission = admission
        self._context = context
        self._idle: list[tuple[trio.lowlevel.Task, trio.CancelScope]] = []

    def submit(self, call: IncomingCall) -> None:
        """Run a call."""
        call.link.running += 1
        self._admission.running += 1
        if self._idle:
            task, scope = self._idle.pop()
            # Here, not when the task runs: the last call's deadline could pass in between.
            deadline = math.inf if call.deadline is None else call.deadline
            if scope.deadline != deadline:
                scope.deadline = deadline
            # A context of its own for every call, or what one handler sets would be seen by the next.
            task.context = self._context.copy()
            trio.lowlevel.reschedule(task, outcome.Value(call))
        else:
            self._context.copy().run(
                functools.partial(self._nursery.start_soon, self._work, call, name="duplex worker")
            )

    async def _work(self, call: IncomingCall) -> None:
        task = trio.lowlevel.current_task()
        method = call.method

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._idle.remove((task, scope))
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            with trio.CancelScope(deadline=math.inf if call.deadline is None else call.deadline) as scope:
                while True:
                    method = call.method
                    try:
                        await call.run(scope)
                    finally:
                        self._admission.running -= 1
                        call.link.ran()
                        del call  # an idle worker must not keep it
                    if scope.cancel_called or len(self._idle) >= MAX_IDLE_WORKERS:
                        return
                    self._idle.append((task, scope))
                    call = await trio.lowlevel.wait_task_rescheduled(abort)
        except (trio.Cancelled, KeyboardInterrupt):
            raise
        except BaseException as error:
            # What a handler raised beside its cancellation: the call was answered already.
            serious, rest = _split(error)
            if rest is not None:
                logger.error("the handler of %s failed while it was cancelled", method, exc_info=rest)
            if serious is not None:
                raise serious from None


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split what a handler raised into what must go on and what ends here."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((trio.Cancelled, KeyboardInterrupt))
    return None, error
