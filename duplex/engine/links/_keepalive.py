"""What is known of the life of a link: who is slow, who is silent, what is idle or too old.

A link is *lost* when its transport says so: at once if the connection ends, and after ``Keepalive.timeout`` if
not even the other side's transport, which has a thread of its own, gives a sign of life. A link is *slow* when
the connection stands and the other side's event loop does not answer a ping within an interval. A peer that is
slow is never declared lost, however long that lasts; it is reported, and callers have deadlines.
"""

from __future__ import annotations

import logging
import random
from typing import Any, Final, Protocol, final

import trio

from duplex._config import Keepalive
from duplex.engine.links._pings import Pings
from duplex.engine.threads import CLEAN_UP
from duplex.protocol import Connection

logger = logging.getLogger("duplex")

#: Intervals in which a ping of the other side is expected where it is the one that pings: its timers are late, too.
_EXPECTED: Final = 1.1


class Named(Protocol):
    """A link whose other side is known."""

    @property
    def peer_id(self) -> str:
        """The other peer's id."""

    @property
    def label(self) -> str:
        """Who the other peer is, for the log."""


class Delays(Protocol):
    """The links of a peer."""

    def note_delay(self, link: Any, delay: float) -> None:
        """A linked peer has not answered for so many seconds."""


class KeepingPeer(Protocol):
    """The peer."""

    @property
    def keepalive(self) -> Keepalive:
        """How links are watched, and how long they are kept."""

    @property
    def slow(self) -> SlowPeers:
        """Those that do not answer."""

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls."""

    @property
    def registry(self) -> Delays:
        """Its links."""


class Cuttable(Protocol):
    """The channels of a link."""

    def cut(self, reason: str) -> None:
        """Cancel the handlers that run for the other side."""


class KeptLink(Named, Protocol):
    """A link that is looked after."""

    @property
    def engine(self) -> KeepingPeer:
        """This side's engine."""

    @property
    def connecting(self) -> bool:
        """Whether this side has connected, rather than bound."""

    @property
    def made_at(self) -> float:
        """When it was made, as :func:`trio.current_time` counts."""

    @property
    def connection(self) -> Connection:
        """The protocol."""

    @property
    def pings(self) -> Pings:
        """Sends pings."""

    @property
    def channels(self) -> Cuttable:
        """Who uses its channels."""

    def leave(self, reason: str, message: str) -> None:
        """Tell the other side to open no more calls on the link; those that run may finish."""

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""


@final
class SlowPeers:
    """The remote peers that do not answer: what is told of each is told once, however many links lead to it."""

    def __init__(self) -> None:
        #: By the peer's id: since when, how many of its links are slow, and whether it has answered on any since.
        self._slow: dict[str, tuple[float, int, bool]] = {}

    def add(self, link: Named, since: float, waited: float) -> None:
        """A link has become slow.

        Args:
            link: the link.
            since: when the ping was sent that is not answered.
            waited: seconds since then.
        """
        known = self._slow.get(link.peer_id)
        if known is None or known[2]:
            logger.warning(
                "%s is slow: it has not answered a ping for %.1f s, though its connection stands: its event loop is "
                "blocked, or has more to do than it can",
                link.label,
                waited,
            )
            known = since, known[1] if known is not None else 0, False
        self._slow[link.peer_id] = known[0], known[1] + 1, known[2]

    def remove(self, link: Named, *, answered: bool) -> None:
        """A link is not slow any more, or it is over."""
        since, count, has_answered = self._slow.pop(link.peer_id)
        if answered and not has_answered:
            logger.warning("%s answers again, after %.1f s", link.label, trio.current_time() - since)
        if count > 1:
            self._slow[link.peer_id] = since, count - 1, has_answered or answered


class LinkKeeper:
    """What is known of one link's life."""

    __slots__ = ("_age", "_begun", "_cut_at", "_link", "_slow_since", "_used_at", "grace", "leaving_since")

    def __init__(self, link: KeptLink) -> None:
        self._link = link
        self._slow_since: float | None = None
        max_age = link.engine.keepalive.max_age
        #: How old the link may become, in seconds: not all at once, where they were all made at once.
        self._age = None if max_age is None else max_age * random.uniform(0.9, 1.1)
        self._begun = 0
        self._used_at = link.made_at
        #: How long calls may go on on a link that is left, in seconds.
        self.grace = link.engine.keepalive.max_age_grace
        #: When this side said that it takes no more calls on the link.
        self.leaving_since: float | None = None
        #: When the calls that did not end in time were cancelled.
        self._cut_at: float | None = None

    @property
    def is_slow(self) -> bool:
        """Whether the other side's event loop has not answered lately, though its connection stands."""
        return self._slow_since is not None

    def ping(self, delay: float) -> None:
        """Ping, and judge from the answers to the pings before whether the other side is slow.

        Args:
            delay: seconds by which this side's event loop ran a timer late. Who is late itself cannot judge.
        """
        link = self._link
        interval = link.engine.keepalive.interval
        now = trio.current_time()
        waited = link.connection.unanswered_for(now)
        if waited is not None and waited >= interval / 2 and delay < interval / 2 and not self.is_slow:
            self._slow_since = now - waited
            link.engine.slow.add(link, self._slow_since, waited)
        if self.is_slow:
            link.engine.registry.note_delay(link, waited or 0.0)
        if self._pinged_enough(now):
            link.connection.note_delay(delay)
        else:
            link.pings.send(delay)

    def _pinged_enough(self, now: float) -> bool:
        """Whether the other side's pings are enough for both.

        Each of them says that its event loop runs, and thousands of idle links are half the work if one side alone pings: the
        one that has connected. The other side pings once, so that both know how long it takes; then only if there are no such
        pings, or if something is going on: who waits for a result is to know soon that the other side is slow.
        """
        link = self._link
        heard_at = link.pings.heard_at
        return (
            not link.connecting
            and heard_at is not None
            and now - heard_at < link.engine.keepalive.interval * _EXPECTED
            and link.pings.round_trip is not None
            and not link.connection.channels
            and not self.is_slow
        )

    def answered(self) -> None:
        """The other side answered a ping."""
        now = trio.current_time()
        if self._slow_since is not None and self._link.connection.unanswered_for(now) is None:
            self._slow_since = None
            self._link.engine.slow.remove(self._link, answered=True)

    def over(self) -> None:
        """The link is over."""
        if self._slow_since is not None:
            self._slow_since = None
            self._link.engine.slow.remove(self._link, answered=False)

    def look(self, now: float) -> None:
        """End or replace the link if it has been idle too long, or is too old."""
        link = self._link
        keepalive = link.engine.keepalive
        if link.engine.is_draining:
            return  # drain() closes links, once what finishes needs them no more
        if self.leaving_since is not None:
            if not link.connection.channels:
                link.say_goodbye("closing")
            elif self._cut_at is not None:
                # Handlers had a moment to clean up, and their callers to be told.
                if now >= self._cut_at + CLEAN_UP:
                    link.say_goodbye("closing", "the link is too old")
            elif now >= self.leaving_since + self.grace:
                self._cut_at = now
                link.channels.cut("the link is too old and the call did not end in time")
            return
        if self._age is not None and now >= link.made_at + self._age:
            link.leave("draining", "the link is old and is to be replaced")
            return
        if keepalive.max_idle is None:
            return
        begun = link.connection.channels_begun
        if begun != self._begun or link.connection.channels:
            self._begun = begun
            self._used_at = now
        elif now >= self._used_at + keepalive.max_idle:
            link.leave("idle", f"nothing was done on the link for {now - self._used_at:.0f} s")
            link.say_goodbye("closing")
