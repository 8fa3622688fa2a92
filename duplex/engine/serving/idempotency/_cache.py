"""The keys that a peer knows, and what is remembered of them."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final, final

import trio

from duplex._config import Idempotency
from duplex._metadata import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._handler import Handler, Kind
from duplex.engine._shares import PUSH_BACK
from duplex.engine._throttle import Throttle
from duplex.engine.serving._admission import Admission
from duplex.engine.serving._end import ServingLink
from duplex.engine.serving._refusal import refuse
from duplex.engine.serving.idempotency._attempt import Attempt
from duplex.engine.serving.idempotency._entry import Entry, Name
from duplex.engine.serving.idempotency._result import JOINED, CallResult
from duplex.protocol import ChannelOpened

logger = logging.getLogger("duplex")

#: What a key counts for whose outcome is forgotten, in bytes: the digest of its name, and when it expires.
KEY_SIZE: Final = 160


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
    if not isinstance(key, str) or not 0 < len(key.encode()) <= MAX_IDEMPOTENCY_KEY:
        return f"an idempotency key is a text of 1 to {MAX_IDEMPOTENCY_KEY} bytes"
    if not isinstance(event.target, str) or handler.kind is not Kind.UNARY:
        what = "a callback" if not isinstance(event.target, str) else "a stream"
        return f"{handler.method} is {what}; idempotency keys are for methods with one result"
    if event.payload is None:
        return (
            f"{handler.method}: with an idempotency key the arguments come with the call, so there can be no "
            f"callbacks and channels among them"
        )
    return None


def _name_digest(name: Name) -> bytes:
    """Return what is kept of a name whose outcome is forgotten."""
    return hashlib.blake2b(repr(name).encode(), digest_size=16).digest()


@final
class ResultCache:
    """The keys that a peer knows, over all its links and callers.

    Bounded in bytes. A key has room for what is kept of it in the end, its digest, from its beginning on, so it is
    never forgotten before its time: it is new keys that are refused. Outcomes are forgotten, the oldest first, when
    others need their room. What has expired goes when the next call with a key comes, or the peer looks after its links.
    """

    def __init__(self, config: Idempotency) -> None:
        self._config = config
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

    def admit(
        self, link: ServingLink, event: ChannelOpened, handler: Handler, codec: Codec, admission: Admission
    ) -> None:
        """Take a call with a key: run it, let it wait, or answer it."""
        problem = _problem(event, handler)
        if problem is not None:
            refuse(link, event, StatusCode.INVALID_ARGUMENT, problem)
            return
        name: Any = (event.target, event.metadata[IDEMPOTENCY_KEY], link.remote.identity.principal)
        digest = _digest(event)
        self.expire()
        entry = self._running.get(name) or self._ended.get(name)
        if entry is None:
            if self._forgotten and _name_digest(name) in self._forgotten:
                Attempt(link, event, codec, None).answer(JOINED if event.notify else self._executed)
                return
            refusal = admission.refusal(link, lasting=True) or self._no_room()
            if refusal is not None:
                refuse(link, event, StatusCode.RESOURCE_EXHAUSTED, refusal, retry_after=PUSH_BACK)
                return
            entry = self._running[name] = Entry(self, name, digest, event, handler, codec)
        elif entry.digest != digest:
            refuse(
                link,
                event,
                StatusCode.FAILED_PRECONDITION,
                f"{handler.method} was called with the idempotency key {name[1]!r} before, and with other "
                f"arguments: each key is for one call and its repetitions",
            )
            return
        entry.join(link, event)

    @property
    def _executed(self) -> CallResult:
        """The answer to the repetition of a call whose outcome is forgotten."""
        return CallResult(
            StatusCode.RESOURCE_EXHAUSTED,
            message=f"the call was executed, but there was no room to remember its outcome until now "
            f"(Idempotency.max_bytes is {self._config.max_bytes})",
        )

    def remember(self, entry: Entry, result: CallResult) -> None:
        """Keep the outcome of a run that has ended."""
        del self._running[entry.name]
        entry.expires = trio.current_time() + self._config.ttl
        if result.size > self._config.max_bytes:
            # Its key must be known all the same, or the handler would run again.
            result = self._executed
            self._note_loss(entry)
        entry.result = result
        entry.size = max(KEY_SIZE, result.size)
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
