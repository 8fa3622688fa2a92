"""Which calls are taken: the limits of handlers that run at once, and shedding of load before memory grows.

What is limited for all links together is shared as :mod:`duplex.engine._shares` has it.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Final, Protocol, final

from duplex._config import Limits
from duplex.engine._shares import GREED, may_hold_more
from duplex.engine.serving._collector import MANY, collector
from duplex.protocol import Connection

#: Calls between two looks at how much all links hold together. A call is at most one message, and each link's
#: own window bounds it anyway.
CALLS_PER_LOOK: Final = 32


class Running(Protocol):
    """Whatever runs handlers."""

    @property
    def running(self) -> int:
        """How many run now."""


class AdmittedLink(Running, Protocol):
    """A link, as far as it counts."""

    #: Bytes that nobody had taken yet when :class:`Admission` saw the link last.
    seen_buffered: int

    @property
    def connection(self) -> Connection:
        """The protocol."""


class Admitting(Protocol):
    """The peer."""

    @property
    def limits(self) -> Limits:
        """What it takes and holds."""

    @property
    def links(self) -> Sequence[AdmittedLink]:
        """Those that are open."""

    @property
    def is_behind(self) -> bool:
        """Whether more has come over links than is done in a turn."""

    @property
    def left_behind(self) -> Sized:
        """Notifications that run, and whose links are gone."""

    @property
    def results(self) -> Running:
        """The idempotency keys."""


@final
class Admission:
    """What one peer has running, and whether it takes more."""

    def __init__(self, peer: Admitting) -> None:
        self._peer = peer
        limits = peer.limits
        self._max_handlers = limits.max_handlers
        self._max_handlers_per_link = limits.max_handlers_per_link
        self._max_buffered = limits.max_buffered
        #: Bytes of all links together up to which nobody can hold more than its part.
        self._much_buffered = GREED * limits.max_buffered // (GREED + 1)
        self._link_buffer = limits.link_buffer
        #: Handlers that run now.
        self.running = 0
        #: Calls that were refused.
        self.refused = 0
        self._calls = 0
        #: What the latest look found.
        self._buffered = 0
        #: The sum of all links' ``seen_buffered``, and from which call on all are to be seen again.
        self._seen = 0
        self._see_all_at = 0

    def refusal(self, link: AdmittedLink, *, lasting: bool = False) -> str | None:
        """Return why a call that came over a link is not taken; ``None`` if it is.

        Args:
            link: which it came over.
            lasting: the handler goes on when the link is gone, so links that come and go must not add up.
        """
        held = link.connection.unconsumed_total
        self._seen += held - link.seen_buffered
        link.seen_buffered = held
        self._calls += 1
        if not self._calls % CALLS_PER_LOOK or self._buffered >= self._much_buffered:
            self._buffered = self._look()
            if self._load >= MANY:
                collector.note(self, self._load)
        if self._buffered >= self._much_buffered and held > self._most_buffered():
            why = (
                f"{held} bytes that this link has sent wait for handlers, and {self._buffered} of all links: those that "
                f"hold most have to wait (Limits.max_buffered: {self._max_buffered})"
            )
        elif link.running >= self._max_handlers_per_link:
            why = f"{link.running} handlers run for this link, the limit (Limits.max_handlers_per_link)"
        elif link.running < GREED * (
            self._max_handlers - self.running
        ):  # as may_hold_more() has it, without a call
            if not lasting or may_hold_more(
                max(link.running, self._lasting()), self.running, self._max_handlers
            ):
                return None
            why = (
                f"{self._lasting()} handlers run for notifications whose links are gone and for idempotency keys, and "
                f"{self.running} for all: the rest is for other calls (Limits.max_handlers: {self._max_handlers})"
            )
        elif self.running >= self._max_handlers:
            why = f"{self.running} handlers run at this peer, the limit (Limits.max_handlers)"
        else:
            why = (
                f"{link.running} handlers run for this link, and {self.running} for all: the rest is for links that have "
                f"fewer (Limits.max_handlers: {self._max_handlers})"
            )
        self.refused += 1
        return f"{why}; try again after a pause, or at another peer"

    def note_handlers(self) -> None:
        """Take note of how many handlers run now, also if they have become few. To be asked now and then."""
        collector.note(self, self._load)

    def end(self) -> None:
        """There is no peer any more whose handlers run."""
        collector.note(self, 0)

    @property
    def _load(self) -> int:
        """How many handlers run. Who is behind with their calls is taken for one who has many: what has come is no handler yet,
        but objects all the same."""
        return max(self.running, MANY) if self._peer.is_behind else self.running

    def _lasting(self) -> int:
        """Return how many handlers run that are no link's, or would go on without theirs."""
        return len(self._peer.left_behind) + self._peer.results.running

    def room(self) -> int:
        """Return how many bytes that one link has sent may wait here without counting as under way."""
        self._calls += 1
        self._buffered = self._look()
        if self._buffered < self._much_buffered:
            return self._link_buffer
        return min(self._link_buffer, self._most_buffered())

    def _most_buffered(self) -> int:
        # Half of an equal share is everybody's, however much the others hold.
        share = self._max_buffered // (2 * max(1, len(self._peer.links)))
        return max(share, GREED * (self._max_buffered - self._buffered))

    def _look(self) -> int:
        """Return the bytes that all links hold. Asking all of many links costs much, so it is done once in as
        many calls as there are links, and before anything can be refused. In between, a link is as it was at its
        latest call, which is exact for what calls bring."""
        if self._calls >= self._see_all_at or self._seen >= self._much_buffered:
            links = self._peer.links
            for link in links:
                link.seen_buffered = link.connection.unconsumed_total
            self._seen = sum(link.seen_buffered for link in links)
            self._see_all_at = self._calls + len(links)
        return self._seen
