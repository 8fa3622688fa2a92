"""Calls from the other side: who runs them, how, and what their outcome is on the wire."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import secrets
import traceback
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
import trio

from duplex._errors import CallCancelled, DuplexError, InvalidArgument, ResourceExhausted, RPCError, as_text
from duplex._metadata import REFUSED, RESERVED_PREFIX, Metadata, metadata_size, without_reserved
from duplex._status import StatusCode
from duplex.codec._base import Buffer, Codec
from duplex.engine._context import CallContext
from duplex.engine._conversation import Conversation
from duplex.engine._deadlines import ABOUT, in_thread, served_call, thread_call
from duplex.engine._failure import Failure, NotBegun, leaves, told, unexpected
from duplex.engine._generator import END_OF_ITEMS, GeneratorThread
from duplex.engine._handler import Flavor, Handler
from duplex.engine._nested import BothEnds, NestedChannel, ReceiveEnd, close_local
from duplex.engine._overflow import Overflowing, OverflowState
from duplex.engine._threads import InThread, run_plain
from duplex.engine._unread import is_much_unread
from duplex.protocol import RESULT, CancelReceived, ChannelOpened

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink

logger = logging.getLogger("duplex")


#: What the names of Duplex's own services begin with.
BUILTIN: Final = "duplex."


#: What a caller is told when the error itself cannot be.
_UNTOLD: Final = "the handler failed with an error that cannot be told; its peer's log says why"
#: What another task is told that still receives from the call's stream, or sends on it.
_ENDED: Final = "the handler has ended, and the call with it"
#: No trailers.
_NONE: Final[Mapping[str, str | bytes]] = {}
_CHANNEL_ERRORS: Final = (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


def current_call() -> CallContext:
    """Return the call that the running handler serves; also in threads and child tasks of the handler.

    Raises:
        RuntimeError: this code does not run on behalf of a call.
    """
    try:
        call: IncomingCall = served_call.get()
        return call.context
    except LookupError:
        raise RuntimeError("current_call() works only inside a handler that serves a call") from None


@final
class PeerInfo(msgspec.Struct, frozen=True):
    """Who is at the other end of a link."""

    #: Random, made when the peer was opened.
    id: str
    #: What the peer calls itself; may be empty.
    name: str

    def __str__(self) -> str:
        return self.name or self.id


class IncomingCall(Conversation):
    """A call that this peer serves. Its handler sees a :class:`CallContext` of it."""

    __slots__ = (
        "_began",
        "_context",
        "_cut",
        "_cut_by",
        "_encoded",
        "_event",
        "_scope",
        "_state",
        "_trailers",
        "_waits",
        "deadline",
        "handler",
        "metadata",
        "notify",
    )

    def __init__(self, link: BaseLink, event: ChannelOpened, handler: Handler, codec: Codec) -> None:
        super().__init__(link, event.channel, codec, handler.input_type)
        self.handler = handler
        self.metadata: Metadata = event.metadata
        self.notify = event.notify
        self.started = link.now
        self.deadline = None if event.timeout is None else link.now + event.timeout
        self._ended = event.end
        self._event = event
        #: Who ended the call before its handler did; see :attr:`cancelled_by`.
        self._cut_by: str | None = None
        #: The status and message to answer with, if it was this side.
        self._cut: tuple[StatusCode, str] | None = None
        self._scope: trio.CancelScope | None = None
        self._encoded: tuple[bytes, Sequence[Buffer]] | None = None
        self._trailers: dict[str, str | bytes] | None = None
        #: Whether the handler may have done anything: until then the call is refused rather than failed.
        self._began = False
        self._state: dict[Any, Any] | None = None
        self._context: CallContext | None = None
        #: Of what the handler's thread waits for on the event loop.
        self._waits: set[trio.CancelScope] | None = None

    # -- what handlers see, through their context ------------------------------------------------------

    @property
    def context(self) -> CallContext:
        """What the handler sees of the call: one object for all who ask."""
        if self._context is None:
            self._context = CallContext(self)
        return self._context

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.handler.method

    @property
    def peer(self) -> PeerInfo:
        """Who calls."""
        remote = self.link.connection.remote
        assert remote is not None
        return PeerInfo(remote.peer_id, remote.name)

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
    def holds_up(self) -> bool:  # type: ignore[override]
        """Whether a peer that drains waits for its end: not for that of a stream which goes on elsewhere, or of
        one that watches the peer itself."""
        return not self.handler.resumable and not self.handler.method.startswith(BUILTIN)

    @property
    def cancelled_by(self) -> str | None:
        """See :attr:`CallContext.cancelled_by`."""
        if self._cut_by is None and self.deadline is not None and trio.current_time() >= self.deadline:
            return "deadline"
        return self._cut_by

    def cancel(self, reason: str = "") -> None:
        """See :meth:`CallContext.cancel`."""
        self.cut(
            StatusCode.CANCELLED, f"the handler's side cancelled the call{': ' if reason else ''}{reason}"
        )

    def cut(self, status: StatusCode, message: str) -> None:
        """Cancel the handler, and answer with this status and message. The first one counts."""
        if self.over or self._stopped or self._cut is not None:
            return
        self._cut_by = "local"
        self._cut = status, message
        self._end_waits()
        if self._scope is not None:
            self._scope.cancel()

    @property
    def time_remaining(self) -> float:
        """See :attr:`CallContext.time_remaining`."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - trio.current_time())

    @property
    def was_cut(self) -> bool:
        """Whether the scope that the handler ran in may have been cancelled."""
        return self._stopped or self._cut is not None

    # -- from the link ---------------------------------------------------------------------------------

    def on_cancelled(self, event: CancelReceived) -> None:
        """The caller gave the call up, or broke its rules."""
        # Who calls keeps the deadline too, and may be first to say that it has passed.
        late = self.deadline is not None and self.link.now >= self.deadline - ABOUT
        self._cut_by = "deadline" if late else "remote"
        if event.closed:
            self.link.forget(self.channel)
            self.finish(CallCancelled(event.reason))
        self._stop()

    def on_lost(self, error: RPCError) -> None:
        """The link is gone: nobody waits for the result, as nobody does for that of a notification in any case."""
        if self.notify:
            self.link.peer.left_behind[self] = None
            return
        super().on_lost(error)
        self._cut_by = "link"
        self._stop()

    def _end_waits(self) -> None:
        """Tell the handler's thread, where it waits on the event loop, that nobody waits for it."""
        for scope in self._waits or ():
            scope.cancel()

    def _stop(self) -> None:
        self._stopped = True
        self._end_waits()
        if self._scope is not None:
            self._scope.cancel()
            self.link.peer.workers.keep_order()

    def check_can_send(self) -> None:
        """See :meth:`Conversation.check_can_send`."""
        if type(self.error) is CallCancelled and not self._closed_send and not self._stopped:
            raise trio.BrokenResourceError(self.error.message)
        super().check_can_send()

    # -- running ---------------------------------------------------------------------------------------

    @property
    def can_run_inline(self) -> bool:
        """Whether the call can be answered without a task: one message in, one out, and room for it."""
        connection = self.link.connection
        return (
            self._event.payload is not None
            and not self.handler.kind.streams_input
            and (self.notify or (connection.link_credit > 0 and connection.credit(self.channel) > 0))
        )

    def run_inline(self) -> None:
        """Run a plain function here and now, and answer."""
        self.link.peer.base_context.copy().run(self._run_inline)

    def _run_inline(self) -> None:
        served_call.set(self)
        self.link.conversations[self.channel] = self
        try:
            args, kwargs = self._bind_first()
            self._began = True
            result = _call(self.handler.function, args, kwargs)
            if self.notify:
                self._finish_notify()
                return
            payload, attachments = self.codec.encode(result, self)
            if self._fresh is None:
                self._close(0, payload, attachments)
            else:
                # The call lives as long as the callbacks and channels in its result, so it needs a task.
                self._encoded = payload, attachments
                self.link.peer.workers.submit(self)
        except KeyboardInterrupt:
            self._fail(RPCError("the peer is stopping", code=StatusCode.UNAVAILABLE))
            raise
        except BaseException as error:
            self._drop_result()
            self._fail(error)

    async def run(self, scope: trio.CancelScope) -> None:
        """Run the handler in a worker's scope, which has the call's deadline, and answer."""
        if self._stopped or self._cut is not None:
            self._answer_stopped()
            return
        self._scope = scope
        token = served_call.set(self)
        try:
            await self._run()
        except BaseException as error:
            if _must_go_on(error):
                self._answer_stopped()
                raise
            self._fail(error)
        finally:
            served_call.reset(token)  # or the idle worker's context would keep the call
            self._scope = None

    async def _run(self) -> None:
        if self._encoded is not None:
            await self._answer_encoded(*self._encoded)
            return
        handler = self.handler
        args, kwargs = self._bind_first() if self._event.payload is not None else await self._bind_later()
        self._began = True
        function = handler.function
        flavor = handler.flavor
        if flavor is Flavor.ASYNC:
            result = await function(*args, **kwargs)
        elif flavor is Flavor.ASYNC_GENERATOR:
            async with contextlib.aclosing(function(*args, **kwargs)) as items:
                async for item in items:
                    if (rest := self.send_now(item)) is not None:
                        await rest
            result = END_OF_ITEMS
        elif flavor is Flavor.SYNC:
            if handler.inline:
                result = function(*args, **kwargs)
            else:
                result = await self._in_thread(functools.partial(run_plain, function, args, kwargs))
        else:
            await self._iterate(function(*args, **kwargs))
            result = END_OF_ITEMS
        if self.notify:
            self._finish_notify()
        elif result is END_OF_ITEMS or handler.kind.streams_output:
            if result is not END_OF_ITEMS and result is not None:
                raise TypeError(
                    f"{self.method} answers through its channel, so it returns None, not a {type(result).__name__}"
                )
            await self.send_queued()
            if exported := self.exported():
                self.end_now()
                await _wait_released(exported)
            self._close(0)
        elif (encoded := self._answer_now(result)) is not None:
            await self._answer_encoded(*encoded)

    async def _iterate(self, generator: Generator[Any, Any, Any]) -> None:
        if self.handler.inline:
            with contextlib.closing(generator):
                for item in generator:
                    if (rest := self.send_now(item)) is not None:
                        await rest
            return
        threads = self.link.peer.threads
        steps = GeneratorThread(threads, generator, self._spawn_in_thread, self.method)
        try:
            while (item := await steps.next()) is not END_OF_ITEMS:
                if (rest := self.send_now(item)) is not None:
                    await rest
        finally:
            await steps.aclose()

    def _spawn_in_thread(self, function: Callable[..., Awaitable[object]], *, name: str) -> None:
        """Run a task of the peer's whose context is that of the handler, and is known to be a thread's."""
        token, inside = thread_call.set(self), in_thread.set(self.link.peer.threads)
        self.link.peer.spawn_here(function, name=name)
        in_thread.reset(inside)
        thread_call.reset(token)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        # A cancelled caller gets its answer at once; the thread's result is dropped, and its place in the
        # pool is free only when it has ended.
        # What the thread calls in turn runs in no scope of this task, so it is told by a variable.
        threads = self.link.peer.threads
        token, inside = thread_call.set(self), in_thread.set(threads)
        try:
            call = InThread(threads, function)
            return await trio.to_thread.run_sync(call, limiter=call, abandon_on_cancel=True)  # type: ignore[arg-type]
        finally:
            in_thread.reset(inside)
            thread_call.reset(token)

    def limit(self, timeout: float | None) -> float | None:
        """See :class:`duplex.engine._deadlines.ThreadCall`."""
        if self._stopped or self._cut is not None or self.over:
            error = self._given_up_error()
            error.may_have_executed = False
            raise error
        if self.deadline is None:
            return timeout
        remaining = self.deadline - trio.current_time()
        return remaining if timeout is None else min(timeout, remaining)

    async def bounded(self, awaited: Awaitable[Any]) -> Any:
        """See :class:`duplex.engine._deadlines.ThreadCall`."""
        if self._waits is None:
            self._waits = set()
        scope = trio.CancelScope()
        if self._stopped or self._cut is not None or self.over:
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

    @trio.lowlevel.enable_ki_protection
    def _bind_first(self) -> tuple[Any, Mapping[str, Any]]:
        """Bind the arguments that came with ``OPEN``."""
        event = self._event
        assert event.payload is not None
        handler = self.handler
        args, kwargs = handler.arguments(self.codec, event.payload, event.attachments, self)
        if not self.notify:
            self.link.consumed(self.channel, event.cost)
        if (event.unary or self.notify) and handler.kind.streams_output:
            raise _wrong_manner(handler, "streams its results")
        if not handler.kind.streams_input:
            # What is sent all the same is ignored, so that nobody waits until it may send more.
            self._closed_receive = True
            if self._inbox:
                self.drop_inbox()
        if handler.stream_parameter is not None:
            return args, self._with_stream(kwargs, ended=event.end or event.unary)
        return args, kwargs

    async def _bind_later(self) -> tuple[Any, Mapping[str, Any]]:
        """Bind the arguments that come in the first message, because live values had to come before."""
        message = await self.next_message()
        if message is None:
            raise RPCError(
                "the call has no arguments: not even an empty list", code=StatusCode.INVALID_ARGUMENT
            )
        handler = self.handler
        args, kwargs = handler.arguments(self.codec, message.payload, message.attachments, self)
        if self._event.unary and handler.kind.streams_output:
            raise _wrong_manner(handler, "streams its results")
        if not handler.kind.streams_input:
            self.close_receive()
        if handler.stream_parameter is not None:
            return args, self._with_stream(kwargs, ended=self._event.unary)
        return args, kwargs

    def _with_stream(self, kwargs: Mapping[str, Any], *, ended: bool) -> Mapping[str, Any]:
        name = self.handler.stream_parameter
        assert name is not None
        if name in kwargs:
            self.close_receive()
            return kwargs
        if ended:
            raise _wrong_manner(self.handler, "takes a stream")
        end = BothEnds(self) if self.handler.wants_channel else ReceiveEnd(self)
        return {**kwargs, name: end}

    # -- answering -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def _answer_now(self, result: Any) -> tuple[bytes, Sequence[Buffer]] | None:
        """Answer with a result if nothing has to be waited for; if not, return it as it is to be sent."""
        try:
            payload, attachments = self.codec.encode(result, self)
        except BaseException:
            self._drop_result()
            raise
        connection = self.link.connection
        if (
            self._fresh is None
            and connection.link_credit > 0
            and connection.credit(self.channel) > 0
            and not (self._trailers and is_much_unread(self.link))
        ):
            self._close(0, payload, attachments)
            return None
        return payload, attachments

    def _drop_result(self) -> None:
        """A result could not be sent. Nobody else has the channels in it any more, so they are closed."""
        for channel in self.revoke_exports():
            self.link.peer.spawn(close_local, channel)

    @trio.lowlevel.enable_ki_protection
    async def _answer_encoded(self, payload: bytes, attachments: Sequence[Buffer]) -> None:
        if self._fresh is not None:
            try:
                await self.send_payload(payload, attachments, RESULT)
            except BaseException:
                self._drop_result()
                raise
            await _wait_released(self.commit_exports())
            self._close(0)
            return
        connection = self.link.connection
        while (
            connection.link_credit <= 0
            or connection.credit(self.channel) <= 0
            or (self._trailers and is_much_unread(self.link))
        ):
            self.check_can_send()
            await self.wait_credit(result=True)
        self._close(0, payload, attachments)

    def _finish_notify(self) -> None:
        self.finish(None)
        link = self.link
        if link.error is not None:
            link.peer.left_behind.pop(self, None)
            link.peer.note_call_ended()
            return
        link.forget(self.channel)
        link.connection.finish(self.channel)
        link.touch()

    def _close(
        self,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        own: Mapping[str, str | bytes] = _NONE,
    ) -> None:
        if self.over:
            return
        self.release(failed=status != 0)
        trailers = self._trailers
        if trailers or own:
            trailers = self._all_trailers(own)
        self.link.close_channel(self.channel, status, payload, attachments, message, details, trailers)
        # Whoever still receives must not take what has come for all that was to come.
        self.finish(None if self._ended else CallCancelled(_ENDED))

    def _all_trailers(self, own: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
        """Return the handler's trailers with the protocol's own."""
        trailers, reserved = without_reserved(self._trailers or {})
        if reserved:
            logger.error(
                "trailers of %s are left out, because keys that begin with %r belong to the protocol: %s",
                self.method,
                RESERVED_PREFIX,
                ", ".join(reserved),
            )
        trailers.update(own)
        return trailers

    @property
    def _has_begun(self) -> bool:
        """Whether the handler may have done anything of what the caller asked for."""
        return self._began

    @trio.lowlevel.enable_ki_protection
    def _answer_stopped(self) -> None:
        """The handler was cancelled; say by whom."""
        if self._cut is not None:
            status, message = self._cut
        elif self.deadline is not None and trio.current_time() >= self.deadline:
            when = "while the handler ran" if self._began else "before the handler began"
            status, message = StatusCode.DEADLINE_EXCEEDED, f"the deadline passed {when}"
        elif self._stopped:
            status, message = StatusCode.CANCELLED, "the caller cancelled the call"
        else:
            status, message = StatusCode.UNAVAILABLE, "the peer is stopping"
        if self.notify:
            self._finish_notify()
        elif not self.over:
            self._close_anyway(Failure(status, message))

    @trio.lowlevel.enable_ki_protection
    def _fail(self, error: BaseException) -> None:
        """Answer with the error that a handler raised, whatever it is like. Raises nothing."""
        try:
            self._answer_error(error)
        except BaseException as problem:
            # Errors are the application's, and so are the logging and the codec's types that they pass through.
            if not self.over:
                self._close_at_last()
            _report_last(self.method, problem)

    def _answer_error(self, error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            error = _sole_error(error)
        if self.notify:
            self._finish_notify()
            if isinstance(error, InvalidArgument):  # nothing that a traceback of this side's would explain
                more = self.link.throttle.note("notifications with bad arguments", self.link.now)
                if more is not None:
                    logger.warning("a notification from %s failed: %s%s", self.peer, as_text(error), more)
            else:
                logger.error("the handler of a notification to %s failed", self.method, exc_info=error)
            return
        if self.over:
            if not isinstance(error, (DuplexError, trio.BrokenResourceError)):
                logger.error("the handler of %s failed after its call was over", self.method, exc_info=error)
            return
        if self._stopped and isinstance(error, _CHANNEL_ERRORS):
            self._answer_stopped()  # a channel told it, before its own cancellation did, that nobody waits
            return
        if isinstance(error, NotBegun):
            self._began = False
        if isinstance(error, RPCError) and error.method is None:
            failure = told(error, self.codec)
            for problem in failure.problems:
                logger.error("an error that %s raised is told in part: %s", self.method, problem)
        else:
            incident = secrets.token_hex(6)
            logger.error("incident %s: the handler of %s failed", incident, self.method, exc_info=error)
            failure = unexpected(error, incident, self.codec, debug=self.link.peer.debug)
        self._close_anyway(failure)

    def _close_anyway(self, failure: Failure) -> None:
        """Close with an error; without what the other side would not take, if it comes to that. Raises nothing."""
        trailers = {**(self._trailers or {}), **failure.trailers}
        own = failure.own if self._has_begun else {**failure.own, REFUSED: "1"}
        if metadata_size(own) > self.link.connection.max_metadata:
            own = _NONE
        for kept, details in ((trailers, failure.details), (None, failure.details), (None, None)):
            self._trailers = kept
            try:
                self._close(failure.status, message=failure.message, details=details, own=own)
                return
            except Exception as problem:
                logger.warning("the error of %s was not taken as it is: %s", self.method, as_text(problem))
        self._close_at_last()

    def _close_at_last(self) -> None:
        """Close with an error that is nobody's, because the one that there is cannot be told. Raises nothing."""
        try:
            if self.notify:
                self._finish_notify()
            else:
                self._trailers = None
                self._close(StatusCode.INTERNAL, message=_UNTOLD)
        except BaseException as problem:
            # Only the end of the link can tell its caller now.
            _report_last(self.method, problem)
            self.link.say_goodbye("closing", "internal error")


@final
class OverflowingCall(IncomingCall, Overflowing):
    """The same for a method with an overflow option."""

    __slots__ = ("overflow",)

    def __init__(self, link: BaseLink, event: ChannelOpened, handler: Handler, codec: Codec) -> None:
        super().__init__(link, event, handler, codec)
        assert handler.overflow is not None
        self.overflow = OverflowState(
            handler.overflow, link.peer.limits.channel_window, arguments_due=event.payload is None
        )

    def fail_receiving(self, error: ResourceExhausted) -> None:
        """See :meth:`Overflowing.fail_receiving`; the handler may go on without its stream."""
        self.overflow.failure = error
        self._ended = True
        self.wake_receiver()


async def _wait_released(exports: list[NestedChannel | int]) -> None:
    """Return once nobody needs live values any more: channels when they are over, callbacks never, so that
    only the caller, by leaving its block, ends the call."""
    for export in exports:
        if isinstance(export, int):
            await trio.sleep_forever()
        else:
            await export.wait_over()


def _wrong_manner(handler: Handler, what: str) -> RPCError:
    name = handler.method.rpartition(".")[2]
    return RPCError(
        f"{handler.method} {what}: call it with `async with remote.{name}.open(...)`",
        code=StatusCode.INVALID_ARGUMENT,
    )


def _report_last(method: str, problem: BaseException) -> None:
    """Note why an error could not be told, though it may be the logging that fails."""
    try:
        logger.error("an error of %s could not be told to its caller", method, exc_info=problem)
    except Exception:
        traceback.print_exc()  # as logging does with the errors of its handlers


@trio.lowlevel.disable_ki_protection
def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call an inline function from the engine's code, but let Ctrl-C strike it, be it in an endless loop."""
    return function(*args, **kwargs)


def _must_go_on(error: BaseException) -> bool:
    """Whether what a handler raised is not its own: an interrupt, or the cancellation of a scope around it.

    ``trio.Cancelled`` of some other scope, which a shared computation or a library has kept and raised here,
    is an error of the handler like any other.
    """
    if _holds(error, KeyboardInterrupt):
        return True
    return _holds(error, trio.Cancelled) and trio.current_effective_deadline() == -math.inf


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    # By hand: groups may be of the application's own classes, which make others of themselves in ways of their own.
    return any(isinstance(found, kind) for found in leaves(error))


def _sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Unwrap a group around a single error, as a nursery in a handler makes."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
