"""Which calls are taken: the limits of handlers that run at once, and shedding of load before memory grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink
    from duplex.engine._peer import BasePeer

#: Calls between two looks at how much all links hold together. A call is at most one message, and each link's
#: own window bounds it anyway.
CALLS_PER_LOOK: Final = 32
#: Seconds after which a refused call may be tried again. Handlers end at times that nobody knows, so this only
#: keeps callers from asking again at once.
PUSH_BACK: Final = 0.1


@final
class Admission:
    """What one peer has running, and whether it takes more."""

    def __init__(self, peer: BasePeer[Any, Any]) -> None:
        self._peer = peer
        limits = peer.limits
        self._max_handlers = limits.max_handlers
        self._max_handlers_per_link = limits.max_handlers_per_link
        self._max_buffered = limits.max_buffered
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

    def refusal(self, link: BaseLink) -> str | None:
        """Return why a call that came over a link is not taken; ``None`` if it is."""
        held = link.connection.unconsumed_total
        self._seen += held - link.seen_buffered
        link.seen_buffered = held
        self._calls += 1
        if not self._calls % CALLS_PER_LOOK or self._buffered >= self._max_buffered:
            self._buffered = self._look()
        if self.running >= self._max_handlers:
            why = f"{self.running} handlers run at this peer, the limit (Limits.max_handlers)"
        elif link.running >= self._max_handlers_per_link:
            why = f"{link.running} handlers run for this link, the limit (Limits.max_handlers_per_link)"
        elif self._buffered >= self._max_buffered:
            why = (
                f"{self._buffered} bytes that were received wait for handlers at this peer, over the limit of "
                f"{self._max_buffered} (Limits.max_buffered)"
            )
        else:
            return None
        self.refused += 1
        return f"{why}; try again after a pause, or at another peer"

    def _look(self) -> int:
        """Return the bytes that all links hold. To ask all of many links is dear, so that is done once in as
        many calls as there are links, and before anything is refused. In between, a link is as it was at its
        latest call, which is exact for what calls bring."""
        if self._calls >= self._see_all_at or self._seen >= self._max_buffered:
            links = self._peer.links
            for link in links:
                link.seen_buffered = link.connection.unconsumed_total
            self._seen = sum(link.seen_buffered for link in links)
            self._see_all_at = self._calls + len(links)
        return self._seen
