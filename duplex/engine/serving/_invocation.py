"""One run of a handler: from its arguments to its result or error, whatever asked for it and whatever runs it."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final, final

import outcome
import trio

from duplex._errors import CallCancelled, DuplexError, InvalidArgument, RPCError, as_text
from duplex._metadata import Metadata
from duplex._status import StatusCode
from duplex.engine._failure import (
    Failure,
    NotBegun,
    must_go_on,
    report_last,
    sole_error,
    told,
    unexpected,
)
from duplex.engine._handler import Flavor, Handler
from duplex.engine.serving._end import CallEnd, CallLink, Host, Port
from duplex.engine.serving._observer import UnservedCall, status_of
from duplex.engine.threads import (
    END_OF_ITEMS,
    GeneratorThread,
    in_thread,
    run_plain,
    served_call,
    thread_call,
)

logger = logging.getLogger("duplex")

#: Errors by which a channel says that its call is over.
_CHANNEL_ERRORS: Final = (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


# Large because there are four flavors of handlers, run in a task or on the event loop itself, with middleware around them or
# without, and each may be cut short in the middle. Each way is a method or two; what they share is how a run ends.
@final
class Invocation:
    """One run of a handler.

    A task runs it (:meth:`run`), or the event loop itself (:meth:`run_inline`). It may be told from outside that nobody
    waits for it any more (:meth:`stop`), or that this side wants it to end (:meth:`cut`).

    Args:
        end: where its arguments come from, and where its outcome goes.
        host: the peer.
        handler: what is run.
        metadata: the caller's headers.
        deadline: when it has to end, as :func:`trio.current_time` counts; ``None`` if never.
        notify: nobody waits for an answer.
    """

    __slots__ = (
        "_cut",
        "_is_stopped",
        "_rest",
        "_scope",
        "_state",
        "_stopped_by",
        "_trailers",
        "_waits",
        "context",
        "deadline",
        "end",
        "handler",
        "has_begun",
        "host",
        "metadata",
        "notify",
        "was_cut",
    )

    def __init__(
        self,
        end: CallEnd,
        host: Host,
        handler: Handler,
        metadata: Metadata,
        deadline: float | None,
        notify: bool,
    ) -> None:
        self.end = end
        self.host = host
        self.handler = handler
        self.metadata = metadata
        self.deadline = deadline
        self.notify = notify
        #: Whether the handler may have done anything: until then the call is refused rather than failed.
        self.has_begun = False
        #: The scope that the handler runs in may have been cancelled: for one of the two reasons that follow.
        self.was_cut = False
        #: Nobody waits for it any more; and who ended the call before its handler did.
        self._is_stopped = False
        self._stopped_by: str | None = None
        #: The status and message to answer with, if it was this side.
        self._cut: tuple[StatusCode, str] | None = None
        self._scope: trio.CancelScope | None = None
        #: What is left to do when the handler has run on the event loop.
        self._rest: Coroutine[Any, Any, None] | None = None
        self._trailers: dict[str, str | bytes] | None = None
        self._state: dict[Any, Any] | None = None
        #: What the handler sees of the call, once it or its middleware has asked: see :mod:`duplex.engine.serving._context`.
        self.context: Any = None
        #: Of what the handler's thread waits for on the event loop.
        self._waits: set[trio.CancelScope] | None = None

    # -- what handlers see, through their context ------------------------------------------------------

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.handler.method

    @property
    def link(self) -> CallLink:
        """See :attr:`CallEnd.link`."""
        return self.end.link

    @property
    def size(self) -> int:
        """See :attr:`CallEnd.size`."""
        return self.end.size

    @property
    def trailers(self) -> dict[str, str | bytes]:
        """See :attr:`CallContext.trailers`."""
        if self._trailers is None:
            self._trailers = {}
        return self._trailers

    @property
    def state(self) -> dict[Any, Any]:
        """See :attr:`CallContext.state`."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def cancelled_by(self) -> str | None:
        """See :attr:`CallContext.cancelled_by`."""
        if self._stopped_by is None and self.deadline is not None and self.host.loop.time() >= self.deadline:
            return "deadline"
        return self._stopped_by

    @property
    def time_remaining(self) -> float:
        """See :attr:`CallContext.time_remaining`."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - self.host.loop.time())

    def cancel(self, reason: str = "") -> None:
        """See :meth:`CallContext.cancel`."""
        message = f"the handler's side cancelled the call{': ' if reason else ''}{reason}"
        self.host.loop.call(self.cut, StatusCode.CANCELLED, message)

    # -- its end before its time -----------------------------------------------------------------------

    @property
    def was_cut_here(self) -> bool:
        """Whether it was this side that cut it."""
        return self._cut is not None

    @property
    def is_being_cancelled(self) -> bool:
        """Whether the handler runs, and its scope is cancelled."""
        return self._scope is not None and self._scope.cancel_called

    def cut(self, status: StatusCode, message: str) -> None:
        """Cancel the handler, and answer with this status and message. The first one counts."""
        if self.end.over or self.was_cut:
            return
        self._stopped_by = "local"
        self._cut = status, message
        self.was_cut = True
        self._end_waits()
        if self._scope is not None:
            self._scope.cancel()

    def stop(self, by: str) -> None:
        """Cancel the handler: nobody waits for it any more.

        Args:
            by: who ended the call; see :attr:`CallContext.cancelled_by`.
        """
        self._stopped_by = by
        self._is_stopped = self.was_cut = True
        self._end_waits()
        if self._scope is not None:
            self._scope.cancel()
            self.host.workers.keep_order(self.end.link)

    def extend(self, deadline: float | None) -> None:
        """Let the handler run until another deadline."""
        self.deadline = deadline
        if self._scope is not None:
            self._scope.deadline = math.inf if deadline is None else deadline

    def _end_waits(self) -> None:
        """Tell the handler's thread, where it waits on the event loop, that nobody waits for it."""
        for scope in self._waits or ():
            scope.cancel()

    # -- running ---------------------------------------------------------------------------------------

    async def run(self, scope: trio.CancelScope) -> None:
        """Run the handler in a task's scope, which has the call's deadline, and answer."""
        if self.was_cut:
            if self._rest is not None:
                self._rest.close()
            self.tell_stopped()
            return
        self._scope = scope
        token = served_call.set(self)
        try:
            await (self._run() if self._rest is None else self._rest)
        except BaseException as error:
            if must_go_on(error):
                self.tell_stopped()
                raise
            self.fail(error)
        finally:
            served_call.reset(token)  # or the idle worker's context would keep the call
            self._scope = None
            self.context = None  # which knows this run

    def ended(self) -> None:
        """The task that ran it goes on to other things."""
        self.end.run_ended()

    async def _run(self) -> None:
        end = self.end
        handler = self.handler
        if handler.layers is not None:
            result = await handler.layers.run(self)
        elif handler.flavor is Flavor.ASYNC:
            # As invoke() does, in fewer steps: nearly all calls are of this kind.
            arguments = end.bind_now()
            args, kwargs = await end.bind_later() if arguments is None else arguments
            self.has_begun = True
            handling = handler.function(*args, **kwargs)
            del arguments, args, kwargs  # what the handler lets go of is nobody's any more
            result = await handling
        else:
            result = await self.invoke(end)
        if self.notify:
            end.finish_notification()
        elif handler.kind.streams_output:
            if result is not None:
                raise self._returned(result)
            await end.finish_stream(self._trailers)
        elif (rest := end.answer(result, self._trailers)) is not None:
            await rest

    async def invoke(self, port: Port) -> Any:
        """Run the handler alone, and return its result; ``None`` if it sends a stream.

        Args:
            port: where its arguments come from, and where the items go that it yields.
        """
        arguments = port.bind_now()
        args, kwargs = await port.bind_later() if arguments is None else arguments
        self.has_begun = True
        handler = self.handler
        if handler.flavor is Flavor.SYNC:
            if handler.inline:
                return handler.function(*args, **kwargs)
            return await self._in_thread(functools.partial(run_plain, handler.function, args, kwargs))
        handling = handler.function(*args, **kwargs)
        del arguments, args, kwargs
        if handler.flavor is Flavor.ASYNC:
            return await handling
        if handler.flavor is Flavor.ASYNC_GENERATOR:
            async with contextlib.aclosing(handling) as items:
                async for item in items:
                    if (rest := port.send_now(item)) is not None:
                        await rest
        else:
            await self._iterate(handling, port)
        return None

    def _returned(self, result: Any) -> TypeError:
        what = type(result).__name__
        if self.handler.layers is None:
            return TypeError(f"{self.method} answers through its channel, so it returns None, not a {what}")
        return TypeError(
            f"{self.method} streams its results, so neither it nor its middleware returns anything, and this was a "
            f"{what}: middleware that answers itself sends the items with call.send()"
        )

    def run_inline(self) -> bool:
        """Run a plain function here and now, and answer; tell whether the rest needs a task, that is :meth:`run`.

        The arguments must have come.
        """
        return self.host.base_context.copy().run(self._run_inline)

    def _run_inline(self) -> bool:
        served_call.set(self)
        try:
            arguments = self.end.bind_now()
            assert arguments is not None
            self.has_begun = True
            result = _call(self.handler.function, *arguments)
            if self.notify:
                self.end.finish_notification()
            else:
                # The call lives as long as the callbacks and channels in its result.
                self._rest = self.end.answer(result, self._trailers)
        except KeyboardInterrupt:
            self.fail(RPCError("the peer is stopping", code=StatusCode.UNAVAILABLE))
            raise
        except BaseException as error:
            self.fail(error)
        self.context = None
        return self._rest is not None

    async def _iterate(self, generator: Generator[Any, Any, Any], port: Port) -> None:
        if self.handler.inline:
            with contextlib.closing(generator):
                for item in generator:
                    if (rest := port.send_now(item)) is not None:
                        await rest
            return
        steps = GeneratorThread(self.host.threads, generator, self._spawn_in_thread, self.method)
        try:
            while (item := await steps.next()) is not END_OF_ITEMS:
                if (rest := port.send_now(item)) is not None:
                    await rest
        finally:
            await steps.aclose()

    # -- in a thread -----------------------------------------------------------------------------------

    def _spawn_in_thread(self, function: Callable[..., Awaitable[object]], *, name: str) -> None:
        """Run a task of the peer's whose context is that of the handler, and is known to be a thread's."""
        token, inside = thread_call.set(self), in_thread.set(self.host.threads)
        self.host.spawn_here(function, name=name)
        in_thread.reset(inside)
        thread_call.reset(token)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        # What the thread calls in turn runs in no scope of this task, so it is told by a variable.
        threads = self.host.threads
        token, inside = thread_call.set(self), in_thread.set(threads)
        try:
            return await self.end.run_in_thread(function, threads)
        finally:
            in_thread.reset(inside)
            thread_call.reset(token)

    def limit(self, timeout: float | None) -> float | None:
        """See :class:`duplex.engine.threads._deadlines.ThreadCall`."""
        if self.was_cut or self.end.over:
            error = self._given_up_error()
            error.may_have_executed = False
            raise error
        if self.deadline is None:
            return timeout
        remaining = self.deadline - trio.current_time()
        return remaining if timeout is None else min(timeout, remaining)

    async def bounded(self, awaited: Awaitable[Any]) -> Any:
        """See :class:`duplex.engine.threads._deadlines.ThreadCall`."""
        if self._waits is None:
            self._waits = set()
        scope = trio.CancelScope()
        if self.was_cut or self.end.over:
            scope.cancel()  # it was between two waits
        self._waits.add(scope)
        try:
            with scope:
                return await awaited
        finally:
            self._waits.discard(scope)
        raise self._given_up_error()

    def _given_up_error(self) -> CallCancelled:
        error = CallCancelled(f"{self.method}, on whose behalf the call is made, is over")
        error.cancelled_by = self.cancelled_by
        return error

    def complete(self) -> None:
        """Note that a function has come to its end in its thread, so that nothing has cut it short, whatever was asked
        of it meanwhile."""
        self._is_stopped = False
        self.was_cut = self._cut is not None

    def conclude(self, ended: outcome.Outcome[Any]) -> None:
        """Answer with what a function came to in its thread after its task was cancelled."""
        try:
            self.end.answer(ended.unwrap(), self._trailers)
        except BaseException as error:
            self.fail(error)

    # -- what went wrong -------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def tell_stopped(self) -> None:
        """Answer that the handler was cut short, and by whom."""
        if self._cut is not None:
            status, message = self._cut
        elif self.deadline is not None and trio.current_time() >= self.deadline:
            when = "while the handler ran" if self.has_begun else "before the handler began"
            status, message = StatusCode.DEADLINE_EXCEEDED, f"the deadline passed {when}"
        elif self._is_stopped:
            status, message = StatusCode.CANCELLED, "the caller cancelled the call"
        else:
            status, message = StatusCode.UNAVAILABLE, "the peer is stopping"
        if self.notify:
            self.end.finish_notification(status)
        elif not self.end.over:
            self._tell(Failure(status, message), was_cut=True)
        self._observe(status, message)

    @trio.lowlevel.enable_ki_protection
    def fail(self, error: BaseException) -> None:
        """Answer with the error that a handler raised, whatever it is like. Raises nothing."""
        try:
            self._answer_error(error)
        except BaseException as problem:
            # Errors are the application's, and so are the logging and the codec's types that they pass through.
            if not self.end.over:
                self.end.fail_at_last()
            report_last(self.method, problem)

    def _answer_error(self, error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            error = sole_error(error)
        end = self.end
        if self.notify:
            status = error.code if isinstance(error, RPCError) else StatusCode.INTERNAL
            end.finish_notification(status)
            self._observe(status, as_text(error))
            if isinstance(error, InvalidArgument):  # nothing that a traceback of this side's would explain
                more = end.note_often("notifications with bad arguments")
                if more is not None:
                    logger.warning("a notification from %s failed: %s%s", end.peer, as_text(error), more)
            elif isinstance(error, RPCError) and not self.has_begun:  # it may not be made, or not now
                more = end.note_often("notifications that were not handled")
                if more is not None:
                    logger.warning(
                        "a notification from %s was not handled: %s%s", end.peer, as_text(error), more
                    )
            else:
                logger.error("the handler of a notification to %s failed", self.method, exc_info=error)
            return
        if end.over:
            if not isinstance(error, (DuplexError, trio.BrokenResourceError)):
                logger.error("the handler of %s failed after its call was over", self.method, exc_info=error)
            return
        if self._is_stopped and isinstance(error, _CHANNEL_ERRORS):
            self.tell_stopped()  # a channel told it, before its own cancellation did, that nobody waits
            return
        if isinstance(error, NotBegun):
            self.has_begun = False
        if isinstance(error, RPCError) and error.method is None:
            failure = told(error, end.codec)
            for problem in failure.problems:
                logger.error("an error that %s raised is told in part: %s", self.method, problem)
        else:
            incident = secrets.token_hex(6)
            logger.error("incident %s: the handler of %s failed", incident, self.method, exc_info=error)
            failure = unexpected(error, incident, end.codec, debug=self.host.debug)
        self._tell(failure, was_cut=False)
        self._observe(failure.status, failure.message)

    def _observe(self, status: int, message: str) -> None:
        """Tell that the call was answered, if neither its handler nor any middleware has begun."""
        observer = self.host.observer
        if observer is not None and not self.has_begun and self.context is None:
            observer.note(
                UnservedCall(
                    method=self.method,
                    peer=self.end.peer,
                    status=status_of(status),
                    message=message,
                    metadata=self.metadata,
                    notify=self.notify,
                )
            )

    def _tell(self, failure: Failure, *, was_cut: bool) -> None:
        self.end.fail(failure, self._trailers, has_begun=self.has_begun, was_cut=was_cut)


@trio.lowlevel.disable_ki_protection
def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call an inline function from the engine's code, but let Ctrl-C interrupt it, even in an endless loop."""
    return function(*args, **kwargs)
