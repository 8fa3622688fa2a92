"""One idempotency key: its run while that goes on, with those who wait for it; then its result."""

from __future__ import annotations

from typing import Protocol, TypeAlias, final

import msgspec

from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._handler import Handler
from duplex.engine.serving._end import ServingLink
from duplex.engine.serving.idempotency._attempt import Attempt
from duplex.engine.serving.idempotency._result import GIVEN_UP, JOINED, CallResult
from duplex.engine.serving.idempotency._run import KeyedRun
from duplex.protocol import ChannelOpened

#: The method, the key, and whose it is: what one principal has done is nobody else's to learn.
Name: TypeAlias = tuple[str, str, str]


class Keeper(Protocol):
    """What remembers keys."""

    def remember(self, entry: Entry, result: CallResult) -> None:
        """Keep the result of a run that has ended."""

    def forget(self, entry: Entry) -> None:
        """Keep nothing of a run that came to nothing: the next attempt runs."""


@final
class Entry:
    """One key: what joins its run and its attempts."""

    __slots__ = (
        "_attempts",
        "_codec",
        "_event",
        "_handler",
        "_keeper",
        "_kept",
        "digest",
        "expires",
        "has_run",
        "is_lost",
        "name",
        "result",
        "run",
        "size",
    )

    def __init__(
        self,
        keeper: Keeper,
        name: Name,
        digest: bytes,
        event: ChannelOpened,
        handler: Handler,
        codec: Codec,
    ) -> None:
        self.name = name
        self.digest = digest
        self.run: KeyedRun | None = None
        self.result: CallResult | None = None
        #: Whether a handler that has ended may have done anything for it.
        self.has_run = False
        #: Whether the result was forgotten before its time.
        self.is_lost = False
        #: When the result is forgotten, and the bytes that it counts for.
        self.expires = 0.0
        self.size = 0
        self._keeper = keeper
        #: The arguments of the first attempt, and so of all; for as long as the handler may need them.
        self._event: ChannelOpened | None = event
        self._handler = handler
        self._codec = codec
        #: Those who wait (an ordered set).
        self._attempts: dict[Attempt, None] = {}
        #: A notification asked for the run: nobody waits, and still it is wanted.
        self._kept = False

    def join(self, link: ServingLink, event: ChannelOpened) -> None:
        """Take an attempt: start the run, or wait for it, or answer at once."""
        attempt = Attempt(link, event, self._codec, self)
        if self.result is not None:
            attempt.answer(self.result)
            return
        self._kept |= event.notify
        if self.run is None:
            self._attempts[attempt] = None
            self._start(attempt)
            return
        self.run.extend(attempt.deadline)
        if event.notify:
            attempt.answer(JOINED)
        else:
            self._attempts[attempt] = None

    def _start(self, attempt: Attempt) -> None:
        first = self._event
        assert first is not None
        event = msgspec.structs.replace(attempt.event, payload=first.payload, attachments=first.attachments)
        attempt.note_run()
        self.run = KeyedRun(attempt, event, self._handler, self)
        for other in self._attempts:
            self.run.extend(other.deadline)
        attempt.link.submit(self.run)

    def cancel(self, attempt: Attempt) -> None:
        """A caller gave its attempt up. The handler is cancelled if nobody else waits; its end is the answer."""
        wanted = self._kept or any(not other.cancelled for other in self._attempts)
        assert self.run is not None
        if wanted or self.run.goes_on_in_thread:
            del self._attempts[attempt]
            attempt.answer(GIVEN_UP)
        else:
            self.run.give_up()

    def cut(self, status: StatusCode, message: str) -> None:
        """Cancel the handler for a reason of this side's; the status and the message are the answer to all."""
        assert self.run is not None
        if self.run.goes_on_in_thread:
            self._answer_all(CallResult(status, message=message))
        else:
            self.run.cut(status, message)

    @property
    def is_awaited(self) -> bool:
        """Whether there is an attempt whose link stands."""
        return bool(self._attempts)

    def leave(self, attempt: Attempt) -> None:
        """The link of an attempt is lost. The handler goes on."""
        del self._attempts[attempt]

    def settle(self, result: CallResult, *, remember: bool) -> None:
        """The run has ended: tell those who wait, and remember the result or forget all about it."""
        run, self.run = self.run, None
        assert run is not None
        if remember:
            self._event = None
            self._keeper.remember(self, result)
            self._answer_all(result)
            return
        again = [attempt for attempt in self._attempts if attempt.waits] if run.may_go_on else []
        for attempt in again:
            del self._attempts[attempt]
        self._answer_all(result)
        if again:
            self._kept = False
            self._attempts = dict.fromkeys(again)
            self._start(again[0])
        else:
            self._keeper.forget(self)

    def dismiss(self, result: CallResult, *, everybody: bool) -> None:
        """The run was cut short, but goes on where it cannot be stopped: those who cut it are answered, or, if it
        was this side, everybody."""
        for attempt in [attempt for attempt in self._attempts if everybody or not attempt.waits]:
            del self._attempts[attempt]
            attempt.answer(result)

    def _answer_all(self, result: CallResult) -> None:
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts:
            attempt.answer(result)
