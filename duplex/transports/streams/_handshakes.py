"""How many handshakes of TLS there are in a second.

A handshake costs the server a signature, a thousand times what it costs a client who sends the same bytes again and again. So there are so
many in a second in all, and of one address; who comes beyond that waits, unread, in the time that a stranger has. Addresses take turns, so
that one that sends many makes its own wait.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

from duplex.transports.streams._strangers import neighbourhood

T = TypeVar("T", bound=Hashable)

#: Seconds of which the handshakes may come at once.
_BURST: Final = 1.0


@final
class Bucket:
    """Fills with so many tokens in a second, up to those of :data:`_BURST`."""

    __slots__ = ("_at", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate * _BURST)
        self._tokens = self._most
        self._at = now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def due(self, now: float) -> float:
        """Return when there is a token: now, or later."""
        self._fill(now)
        # What is as good as a token is one, or rounding would put it off again and again.
        return now if self._tokens > 0.999 else now + (1.0 - self._tokens) / self._rate

    def take(self) -> None:
        """Take the token that is there."""
        self._tokens -= 1.0

    def is_full(self, now: float) -> bool:
        """Whether nothing is remembered here."""
        self._fill(now)
        return self._tokens >= self._most


@final
class Handshakes(Generic[T]):
    """Those of one port.

    Args:
        rate: how many in a second.
        rate_of_one: how many of one address; of this machine's own as many as there may be at all.
        now: the time.
    """

    def __init__(self, rate: float, rate_of_one: float, now: float) -> None:
        self._all = Bucket(rate, now)
        self._rate_of_one = rate_of_one
        #: What addresses have left that have had handshakes lately.
        self._of: dict[str, Bucket] = {}
        #: Where all come from that have had none; and those who wait, by that, in the order of turns.
        self._where: dict[T, str] = {}
        self._waiting: dict[str, dict[T, None]] = {}

    def note(self, stranger: T, host: str) -> None:
        """One has connected.

        Args:
            stranger: who.
            host: its address.
        """
        self._where[stranger] = neighbourhood(host)

    def is_waiting(self, stranger: T) -> bool:
        """Whether one was told to wait."""
        return stranger in self._waiting.get(self._where.get(stranger, ""), ())

    def begin(self, stranger: T, now: float) -> bool:
        """One has said something: tell whether its handshake may begin. If not, it waits until :meth:`take_due` returns it."""
        where = self._where[stranger]
        # Those who wait come first, but for those whose address has had its share.
        if self._due(where, now) <= now and all(self._due(other, now) > now for other in self._waiting):
            self._take(stranger, where, now)
            return True
        self._waiting.setdefault(where, {})[stranger] = None
        return False

    def remove(self, stranger: T) -> None:
        """One is gone. Who is none stays none."""
        where = self._where.pop(stranger, None)
        if where is not None:
            self._unwait(stranger, where)

    def next_due(self, now: float) -> float | None:
        """Return when the next one may begin; ``None`` if nobody waits."""
        return min((self._due(where, now) for where in self._waiting), default=None)

    def take_due(self, now: float) -> list[T]:
        """Return those who may begin now."""
        for where in [where for where, bucket in self._of.items() if bucket.is_full(now)]:
            del self._of[where]
        begun: list[T] = []
        is_over = False
        while not is_over:
            is_over = True
            for where in list(self._waiting):
                if self._due(where, now) > now:
                    continue
                is_over = False
                strangers = self._waiting.pop(where)
                # It is behind all others the next time.
                self._waiting[where] = strangers
                stranger = next(iter(strangers))
                self._take(stranger, where, now)
                begun.append(stranger)
        return begun

    def _due(self, where: str, now: float) -> float:
        bucket = self._of.get(where)
        due = self._all.due(now)
        return due if bucket is None else max(due, bucket.due(now))

    def _take(self, stranger: T, where: str, now: float) -> None:
        self._all.take()
        if where:
            if where not in self._of:
                self._of[where] = Bucket(self._rate_of_one, now)
            self._of[where].take()
        del self._where[stranger]
        self._unwait(stranger, where)

    def _unwait(self, stranger: T, where: str) -> None:
        strangers = self._waiting.get(where)
        if strangers is not None:
            strangers.pop(stranger, None)
            if not strangers:
                del self._waiting[where]
