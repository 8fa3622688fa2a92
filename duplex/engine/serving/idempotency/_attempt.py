"""One caller that waits for the result of an idempotency key.

An attempt needs no task. It answers when the run has ended, or, if the link has no credit then, when credit
comes.
"""

from __future__ import annotations

import logging
from typing import Protocol, final

import msgspec
import trio

from duplex._errors import CallCancelled, DuplexError, RPCError
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine.channels import ChannelEnd, is_much_unread, message_bytes, opening_bytes
from duplex.engine.serving._end import ServingLink
from duplex.engine.serving._observer import Observer, UnservedCall, status_of
from duplex.engine.serving.idempotency._result import GIVEN_UP, CallResult
from duplex.protocol import CancelReceived, ChannelOpened

logger = logging.getLogger("duplex")


class Awaited(Protocol):
    """What attempts wait for."""

    def cancel(self, attempt: Attempt) -> None:
        """The caller of an attempt gave it up. It is to be answered."""

    def leave(self, attempt: Attempt) -> None:
        """The link of an attempt is lost."""


@final
class Attempt(ChannelEnd):
    """One caller's channel, which waits for the result of its key.

    It has the attributes and methods of every channel end, hence more than twenty and thirty.
    """

    __slots__ = ("_awaited", "_has_run", "_result", "cancelled", "deadline", "event")

    delays_drain = True
    link: ServingLink  # type: ignore[mutable-override]  # set once, in __init__
    deadline: float | None

    def __init__(
        self, link: ServingLink, event: ChannelOpened, codec: Codec, awaited: Awaited | None
    ) -> None:
        super().__init__(link, event.channel, codec)
        #: The caller gave it up; it is answered when the handler has stopped.
        self.cancelled = False
        self.deadline = None if event.timeout is None else trio.current_time() + event.timeout
        # The arguments are those of the first attempt, which the entry holds: one copy is enough.
        self.event = msgspec.structs.replace(event, payload=b"", attachments=())
        self._awaited = awaited
        self._result: CallResult | None = None
        #: Whether a run began for it, or it waits for that of another.
        self._has_run = False
        self._closed_receive = True
        self.started = link.now
        if not event.notify:
            link.consumed(self.channel, event.cost)
        link.channels.users[self.channel] = self

    @property
    def method(self) -> str:
        """``service.method``."""
        return str(self.event.target)

    @property
    def waits(self) -> bool:
        """Whether somebody still wants the result, and has time."""
        return (
            not self.cancelled
            and not self.event.notify
            and (self.deadline is None or trio.current_time() < self.deadline)
        )

    def note_run(self) -> None:
        """A run begins for this attempt."""
        self._has_run = True

    def answer(self, result: CallResult) -> None:
        """Close the channel with a result, now or as soon as there is credit."""
        self._awaited = None
        self._result = result
        self._send()

    def _send(self) -> None:
        link = self.link
        result = self._result
        assert result is not None
        if not self.over and not self.event.notify and result.payload is not None:
            connection = link.connection
            if (
                connection.link_credit <= 0
                or connection.credit(self.channel) <= 0
                or (result.trailers and is_much_unread(link))
            ):
                link.credit.waiters[self] = True
                return
        link.credit.waiters.pop(self, None)
        if self.over:
            return
        self.release(failed=result.status != 0)
        if self.event.notify:
            self._end_notification(result)
        else:
            self._close(result)
        self._count(
            result.status, 0 if result.payload is None else message_bytes(result.payload, result.attachments)
        )
        self.finish(None)
        if self.link.engine.observer is not None and not self._has_run:
            self._observe(self.link.engine.observer, result)

    def _count(self, status: int, sent: int) -> None:
        peer = self.link.engine
        if peer.counting is not None:
            seconds = peer.clock() - self.started
            peer.counting.served[self.method].ended(status, seconds, opening_bytes(self.event), sent)

    def _observe(self, observer: Observer, result: CallResult) -> None:
        observer.note(
            UnservedCall(
                method=self.method,
                peer=self.link.remote,
                status=status_of(result.status),
                message=result.message,
                metadata=self.event.metadata,
                notify=self.event.notify,
                repeated=True,
            )
        )

    def _close(self, result: CallResult) -> None:
        try:
            self.link.channels.close(self.channel, **msgspec.structs.asdict(result))
        except DuplexError as problem:
            # The result stands; it is this caller's peer that does not take it, so it hears why. An error is told
            # without what is too large of it.
            code = problem.code if isinstance(problem, RPCError) else StatusCode.INTERNAL
            self.link.channels.close(
                self.channel, result.status or code, message=result.message if result.status else str(problem)
            )

    def _end_notification(self, result: CallResult) -> None:
        if result.status:
            target = self.event.target
            logger.error("the handler of a notification to %s failed: %s", target, result.message)
        self.link.channels.forget(self.channel)
        if self.link.connection.is_open:
            self.link.connection.finish(self.channel)
            self.link.touch()

    # -- from the link ---------------------------------------------------------------------------------

    def on_credit(self) -> None:
        """Credit came, or the channel is over."""
        if self._result is not None:
            self._send()

    def on_cancelled(self, event: CancelReceived) -> None:
        """The caller gave this attempt up, or broke its rules."""
        self.cancelled = True
        awaited = self._awaited
        if event.closed:
            self.link.channels.forget(self.channel)
            self._count(StatusCode.CANCELLED, 0)
            self.finish(CallCancelled(event.reason))
        if awaited is None:
            self.answer(GIVEN_UP)
        else:
            awaited.cancel(self)

    def on_lost(self, error: RPCError) -> None:
        """The link is gone. The handler runs on: the caller may come back and ask again."""
        if not self.over:
            self._count(StatusCode.CANCELLED, 0)
        super().on_lost(error)
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.leave(self)
