"""Idempotency keys: a method runs once for a key, however often it is called.

A caller whose link was lost cannot know whether its call was executed. With a key it may simply call again, over
any link, until the outcome of the one run is remembered no longer. The key is claimed before the handler starts,
so attempts at the same moment are safe too: one runs, the others wait for it.

What is remembered is the outcome of a run that came to its end, success or error; where room is short, only that
there was one, so that the handler does not run again. A run that was cut short, by its callers or by its deadline, is
forgotten, and the next attempt runs; so is one whose arguments were refused, for its handler never began. ``docs/design/repetition.md`` has the reasons.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import msgspec
import trio

from duplex._config import Idempotency
from duplex._metadata import IDEMPOTENCY_KEY
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._admission import PUSH_BACK
from duplex.engine._handler import Handler, Kind
from duplex.engine._keyed import GIVEN_UP, Attempt, KeyedCall, Outcome
from duplex.engine._throttle import Throttle
from duplex.protocol import ChannelOpened

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink
    from duplex.engine._workers import Workers

logger = logging.getLogger("duplex")

#: Bytes of a key.
MAX_KEY: Final = 255
#: What a key counts for whose outcome is forgotten, in bytes: the digest of its name, and when it expires.
KEY_SIZE: Final = 160

#: The method, and the key.
Name: TypeAlias = tuple[str, str]


def _digest(event: ChannelOpened) -> bytes:
    """Return what tells the arguments of a call from others: equal bytes in the same codec are equal."""
    parts = [event.codec.encode(), event.payload or b"", *event.attachments]
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _problem(event: ChannelOpened, handler: Handler) -> str | None:
    """Return why a call cannot have a key, or ``None``."""
    key = event.metadata[IDEMPOTENCY_KEY]
    if not isinstance(key, str) or not 0 < len(key.encode()) <= MAX_KEY:
        return f"an idempotency key is a text of 1 to {MAX_KEY} bytes"
    if not isinstance(event.target, str) or handler.kind is not Kind.UNARY:
        what = "a callback" if not isinstance(event.target, str) else "a stream"
        return f"{handler.method} is {what}; idempotency keys are for methods with one result"
    if event.payload is None:
        return (
            f"{handler.method}: with an idempotency key the arguments come with the call, so there can be no "
            f"callbacks and channels among them"
        )
    return None


@final
class Entry:
    """One key: its run while that goes on, with those who wait for it; then its outcome."""

    __slots__ = (
        "_attempts",
        "_cache",
        "_codec",
        "_event",
        "_handler",
        "_kept",
        "digest",
        "expires",
        "has_run",
        "is_lost",
        "name",
        "outcome",
        "run",
        "size",
    )

    def __init__(
        self,
        cache: ResultCache,
        name: Name,
        digest: bytes,
        event: ChannelOpened,
        handler: Handler,
        codec: Codec,
    ) -> None:
        self.name = name
        self.digest = digest
        self.run: KeyedCall | None = None
        self.outcome: Outcome | None = None
        #: Whether a handler that has ended may have done anything for it.
        self.has_run = False
        #: Whether the outcome was forgotten before its time.
        self.is_lost = False
        #: When the outcome is forgotten, and the bytes that it counts for.
        self.expires = 0.0
        self.size = 0
        self._cache = cache
        #: The arguments of the first attempt, and so of all; for as long as the handler may need them.
        self._event: ChannelOpened | None = event
        self._handler = handler
        self._codec = codec
        #: Those who wait (an ordered set).
        self._attempts: dict[Attempt, None] = {}
        #: A notification asked for the run: nobody waits, and still it is wanted.
        self._kept = False

    def join(self, link: BaseLink, event: ChannelOpened) -> None:
        """Take an attempt: start the run, or wait for it, or answer at once."""
        attempt = Attempt(link, event, self._codec, self)
        if self.outcome is not None:
            attempt.answer(self.outcome)
            return
        self._kept |= event.notify
        if self.run is None:
            self._attempts[attempt] = None
            self._start(attempt)
            return
        self.run.extend(attempt.deadline)
        if event.notify:
            attempt.answer(_JOINED)
        else:
            self._attempts[attempt] = None

    def _start(self, attempt: Attempt) -> None:
        first = self._event
        assert first is not None
        event = msgspec.structs.replace(attempt.event, payload=first.payload, attachments=first.attachments)
        self.run = KeyedCall(attempt.link, event, self._handler, self._codec, self)
        self.run.deadline = attempt.deadline
        for other in self._attempts:
            self.run.extend(other.deadline)
        self._cache.workers.submit(self.run)

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
            self._answer_all(Outcome(status, message=message))
        else:
            self.run.cut(status, message)

    @property
    def is_awaited(self) -> bool:
        """Whether there is an attempt whose link stands."""
        return bool(self._attempts)

    def leave(self, attempt: Attempt) -> None:
        """The link of an attempt is lost. The handler goes on."""
        del self._attempts[attempt]

    def settle(self, outcome: Outcome, *, remember: bool) -> None:
        """The run has ended: tell those who wait, and remember the outcome or forget all about it."""
        run, self.run = self.run, None
        assert run is not None
        run.link.peer.note_call_ended()
        if remember:
            self._event = None
            self._cache.remember(self, outcome)
            self._answer_all(outcome)
            return
        again = [attempt for attempt in self._attempts if attempt.waits] if run.may_go_on else []
        for attempt in again:
            del self._attempts[attempt]
        self._answer_all(outcome)
        if again:
            self._kept = False
            self._attempts = dict.fromkeys(again)
            self._start(again[0])
        else:
            self._cache.forget(self)

    def dismiss(self, outcome: Outcome, *, everybody: bool) -> None:
        """The run was cut short, but goes on where it cannot be stopped: those who cut it are answered, or, if it
        was this side, everybody."""
        for attempt in [attempt for attempt in self._attempts if everybody or not attempt.waits]:
            del self._attempts[attempt]
            attempt.answer(outcome)

    def _answer_all(self, outcome: Outcome) -> None:
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts:
            attempt.answer(outcome)


#: For a notification that joins a run: nobody waits for more.
_JOINED: Final = Outcome(StatusCode.OK)


def _name_digest(name: Name) -> bytes:
    """Return what is kept of a name whose outcome is forgotten."""
    return hashlib.blake2b("\0".join(name).encode(), digest_size=16).digest()


@final
class ResultCache:
    """The keys that a peer knows, over all its links and callers.

    Bounded in bytes. A key has room for what is kept of it in the end, its digest, from its beginning on, so it is
    never forgotten before its time: it is new keys that are refused. Outcomes are forgotten, the oldest first, when
    others need their room. What has expired goes when the next call with a key comes, or the peer looks after its links.
    """

    def __init__(self, config: Idempotency, workers: Workers) -> None:
        self._config = config
        self.workers = workers
        self._running: dict[Name, Entry] = {}
        #: In the order in which they ended, which is that in which they expire.
        self._ended: dict[Name, Entry] = {}
        #: When the keys whose outcomes are forgotten expire, by the digests of their names; in the same order.
        self._forgotten: dict[bytes, float] = {}
        #: Of what has ended; what runs has room for its digest besides.
        self._bytes = 0
        #: Outcomes that were forgotten before their time, and keys that were refused, for lack of room.
        self.lost = 0
        self.refused = 0
        self._throttle = Throttle()

    @property
    def running(self) -> int:
        """Keys whose handlers run, with or without anybody who waits."""
        return len(self._running)

    @property
    def remembered(self) -> tuple[int, int]:
        """Outcomes that are remembered, and the bytes of all that has ended."""
        return len(self._ended), self._bytes

    @property
    def size(self) -> int:
        """Bytes that all keys count for."""
        return self._bytes + KEY_SIZE * len(self._running)

    @property
    def forgotten(self) -> int:
        """Keys that are known though their outcomes are forgotten."""
        return len(self._forgotten)

    @property
    def unattended(self) -> int:
        """Keys whose handlers run though nobody is linked to wait for them; a function that was cancelled and
        runs on in its thread does not count."""
        return sum(
            not entry.is_awaited and entry.run is not None and not entry.run.goes_on_in_thread
            for entry in self._running.values()
        )

    def cut(self, status: StatusCode, message: str) -> None:
        """Cancel all handlers that run for a key."""
        for entry in list(self._running.values()):
            entry.cut(status, message)

    def admit(self, link: BaseLink, event: ChannelOpened, handler: Handler, codec: Codec) -> None:
        """Take a call with a key: run it, let it wait, or answer it."""
        problem = _problem(event, handler)
        if problem is not None:
            link.refuse(event, StatusCode.INVALID_ARGUMENT, problem)
            return
        name: Any = (event.target, event.metadata[IDEMPOTENCY_KEY])
        digest = _digest(event)
        self.expire()
        entry = self._running.get(name) or self._ended.get(name)
        if entry is None:
            if self._forgotten and _name_digest(name) in self._forgotten:
                Attempt(link, event, codec, None).answer(_JOINED if event.notify else self._executed)
                return
            refusal = link.peer.admission.refusal(link, lasting=True) or self._no_room()
            if refusal is not None:
                link.refuse(event, StatusCode.RESOURCE_EXHAUSTED, refusal, retry_after=PUSH_BACK)
                return
            entry = self._running[name] = Entry(self, name, digest, event, handler, codec)
        elif entry.digest != digest:
            link.refuse(
                event,
                StatusCode.FAILED_PRECONDITION,
                f"{handler.method} was called with the idempotency key {name[1]!r} before, and with other "
                f"arguments: each key is for one call and its repetitions",
            )
            return
        entry.join(link, event)

    @property
    def _executed(self) -> Outcome:
        """The answer to the repetition of a call whose outcome is forgotten."""
        return Outcome(
            StatusCode.RESOURCE_EXHAUSTED,
            message=f"the call was executed, but there was no room to remember its outcome until now "
            f"(Idempotency.max_bytes is {self._config.max_bytes})",
        )

    def remember(self, entry: Entry, outcome: Outcome) -> None:
        """Keep the outcome of a run that has ended."""
        del self._running[entry.name]
        entry.expires = trio.current_time() + self._config.ttl
        if outcome.size > self._config.max_bytes:
            # Its key must be known all the same, or the handler would run again.
            outcome = self._executed
            self._note_loss(entry)
        entry.outcome = outcome
        entry.size = max(KEY_SIZE, outcome.size)
        self._ended[entry.name] = entry
        self._bytes += entry.size
        self._make_room(0)

    def forget(self, entry: Entry) -> None:
        """Keep nothing of a run that came to nothing: the next attempt runs."""
        del self._running[entry.name]

    def expire(self) -> None:
        """Forget the keys whose time is over."""
        now = trio.current_time()
        ended, forgotten = self._ended, self._forgotten
        while forgotten and next(iter(forgotten.values())) <= now:
            del forgotten[next(iter(forgotten))]
            self._bytes -= KEY_SIZE
        while ended and next(iter(ended.values())).expires <= now:
            self._bytes -= ended.pop(next(iter(ended))).size

    def _no_room(self) -> str | None:
        """Return why there is no room for another key, or ``None``."""
        if self._make_room(KEY_SIZE):
            return None
        self.refused += 1
        more = self._throttle.note("refused", trio.current_time())
        if more is not None:
            logger.warning(
                "calls with new idempotency keys are refused: there is no room for more of them%s", more
            )
        return (
            f"{len(self._running)} calls with idempotency keys run here and {len(self._forgotten)} are known, and "
            f"there is no room for more (Idempotency.max_bytes is {self._config.max_bytes})"
        )

    def _make_room(self, size: int) -> bool:
        """Forget outcomes, the oldest first, until there are so many bytes; tell whether there are."""
        most = self._config.max_bytes - size
        while self.size > most and self._ended:
            name = next(iter(self._ended))
            entry = self._ended.pop(name)
            self._forgotten[_name_digest(name)] = entry.expires
            self._bytes -= entry.size - KEY_SIZE
            if not entry.is_lost:
                self._note_loss(entry)
        return self.size <= most

    def _note_loss(self, entry: Entry) -> None:
        entry.is_lost = True
        self.lost += 1
        now = trio.current_time()
        more = self._throttle.note("lost", now)
        if more is not None:
            logger.warning(
                "the outcome of a call with an idempotency key is forgotten %.0f s before its time, for there is no "
                "room (Idempotency.max_bytes is %d); who repeats the call is told that it was executed%s",
                max(0.0, entry.expires - now),
                self._config.max_bytes,
                more,
            )
