"""The tasks that run handlers."""

from __future__ import annotations

import contextvars
import functools
import logging
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
    """

    def __init__(self, nursery: trio.Nursery, context: contextvars.Context, admission: Admission) -> None:
        self._nursery = nursery
        self._admission = admission
        self._context = context
        self._idle: list[trio.lowlevel.Task] = []

    def submit(self, call: IncomingCall) -> None:
        """Run a call."""
        call.link.running += 1
        self._admission.running += 1
        if self._idle:
            task = self._idle.pop()
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
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            with trio.CancelScope() as scope:
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
                    self._idle.append(task)
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
