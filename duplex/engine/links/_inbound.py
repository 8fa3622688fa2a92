"""What comes in over one link: messages become events, which are acted upon, a few in each turn.

Links take turns. Of one message :data:`MOST_EVENTS` are acted upon at once; what is left of it, and what comes behind it,
waits in a :class:`Backlog`, from which :data:`PART` at a time are taken after the other links have been heard. Calls
for which the workers have no time wait there too. ``docs/design/engine.md`` says why ("Turns of links").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, final

from duplex._config import Limits
from duplex._errors import HandshakeError, RemoteProtocolError, RPCError
from duplex.engine._log import logger
from duplex.engine.channels import CreditShare
from duplex.engine.links._backlog import Backlog
from duplex.engine.links._outbound import Outbound
from duplex.engine.tasks import Job, Source, Workers
from duplex.protocol import Connection, Event, HelloReceived, LinkOpened
from duplex.transports import Frames, Turns

#: Events that are acted upon for one link before others have their turn: of a new message, and of one that waits.
MOST_EVENTS: Final = 16
PART: Final = 8


class ReceivingOwner(Protocol):
    """The peer."""

    @property
    def limits(self) -> Limits:
        """What it takes and holds."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time, as :func:`trio.current_time` does."""

    @property
    def workers(self) -> Workers:
        """The tasks that run handlers, and receive."""


class ReceivingLink(Source, Protocol):
    """The link, as far as receiving concerns it."""

    #: When the present batch of commands began, in or out, as :func:`trio.current_time` counts.
    now: float
    #: Why there is no link, for those who wait for it.
    refusal: HandshakeError | None

    @property
    def engine(self) -> ReceivingOwner:
        """This side's engine."""

    @property
    def label(self) -> str:
        """Who the other peer is, for the log."""

    @property
    def connection(self) -> Connection:
        """Reads messages."""

    @property
    def turns(self) -> Turns:
        """Those in which its messages come."""

    @property
    def credit(self) -> CreditShare:
        """Who waits for credit."""

    @property
    def outbound(self) -> Outbound:
        """What goes out."""

    @property
    def error(self) -> RPCError | None:
        """Why the link is over, once it is."""

    @property
    def goodbye(self) -> str | None:
        """Why the link ends after the present message, if it does."""

    def go_on(self) -> bool:
        """Act on a little more of what has come; tell whether there is still more."""

    def lose(self, reason: str) -> None:
        """The link is over."""

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""


@final
class Inbound:
    """Acts on what one link receives.

    Args:
        link: the link.
        dispatch: who acts on an event, by its class.

    Attributes:
        backlog: what came while there was more to do for the other side than for one turn; ``None`` if there is not.
    """

    def __init__(self, link: ReceivingLink, dispatch: Mapping[type, Callable[[Any], None]]) -> None:
        self._link = link
        self._dispatch = dispatch
        self._connection = link.connection
        self._clock = link.engine.clock
        self._workers = link.engine.workers
        self._outbound = link.outbound
        self._credit = link.credit
        self.backlog: Backlog | None = None
        #: Nothing is acted upon until it is known who the other side is.
        self._is_held = False
        #: What is acted upon of a new message.
        self._most = MOST_EVENTS
        #: Why the connection has ended, if it did before all was taken.
        self._down: str | None = None

    def on_frames(self, frames: Frames) -> None:
        """A message came from the other side."""
        if self.backlog is None:
            self._take(frames, self._most)
            return
        self.backlog.add(frames)
        if self.backlog.is_too_much and self._connection.is_open:
            why = f"{self.backlog.size} bytes that it sent wait for their turn, more than credit can have let it send"
            logger.warning("the link to %s is cut: %s", self._link.label, why)
            self._link.say_goodbye("closing", why)

    def go_on(self) -> bool:
        """Act on a little more of what has come; tell whether there is still more."""
        backlog = self.backlog
        assert backlog is not None
        left = PART
        workers = self._workers
        while backlog.jobs and left > 0 and not workers.must_wait(self._link):
            workers.submit(backlog.jobs.popleft(), self._link)
            left -= 1
        connection = self._connection
        link = self._link
        while left > 0 and link.error is None:
            if backlog.jobs or not (connection.is_unfinished or backlog.messages):
                break
            events = self._take(None if connection.is_unfinished else backlog.take(), left)
            # Messages that mean nothing have to be read, too, and commands that do, such as calls that are refused.
            left -= 1 + max(events, connection.looked_at)
        if link.error is None and (backlog.jobs or connection.is_unfinished or backlog.messages):
            return True
        self.backlog = None
        if self._down is not None:
            link.lose(self._down)
        return False

    def _begin_backlog(self) -> Backlog:
        self.backlog = Backlog(self._link.engine.limits)
        self._workers.leads[self._link.turns].wait_for_turn(self._link)
        return self.backlog

    def postpone(self, job: Job, *, before: bool = False) -> bool:
        """See :meth:`duplex.engine.tasks.Source.postpone`."""
        if self._link.error is not None or self._link.turns not in self._workers.leads:
            return False
        jobs = (self.backlog or self._begin_backlog()).jobs
        if before:
            jobs.appendleft(job)
        else:
            jobs.append(job)
        return True

    def hand_over(self) -> None:
        """The link is over: what came over it is run all the same, as far as its users have use for it."""
        if self.backlog is not None:
            self._workers.hand_over(self.backlog.jobs)

    def down(self, reason: str) -> None:
        """The connection has ended, and with it the link, as soon as all is taken that came before."""
        if self.backlog is None or self._is_held:
            self._link.lose(reason)
        else:
            self._down = reason

    def take_one(self) -> None:
        """Act on one event of the next message, and leave the others to :meth:`go_on`, or to :meth:`release`."""
        self._most = 1

    def hold(self) -> None:
        """Act on nothing that comes, until :meth:`release`."""
        self._is_held = True
        self.backlog = Backlog(self._link.engine.limits)

    def release(self) -> None:
        """Act on what has come in the meantime, and on what comes."""
        self._is_held = False
        self._most = MOST_EVENTS
        self._workers.leads[self._link.turns].wait_for_turn(self._link)
        self._link.turns.probe()

    def _take(self, frames: Frames | None, most: int) -> int:
        """Act on a message, or on what was left of one, until so many events or commands; return how many events it were."""
        connection = self._connection
        link = self._link
        try:
            link.now = now = self._clock()
            if frames is None:
                events = connection.go_on(now, most)
            else:
                events = connection.receive(frames, now, most)
        except RemoteProtocolError as error:
            self._end_broken(error)
            return 0
        dispatch = self._dispatch
        try:
            for event in events:
                if link.error is not None:
                    return 0
                dispatch[type(event)](event)
            if self._credit.has_come:
                self._credit.share()
        except Exception:
            # A bug of ours must cost this link and no other: its state can no longer be trusted.
            logger.exception("handling a message from %s failed; the link is closed", link.label)
            link.say_goodbye("closing", "internal error")
            return 0
        if connection.is_unfinished:
            if self.backlog is None:
                self._begin_backlog()
        elif link.goodbye is not None:
            link.lose(link.goodbye)
            return 0
        if not self._outbound.is_dirty and connection.pending_commands():
            self._outbound.touch()
        return len(events)

    def _end_broken(self, error: RemoteProtocolError) -> None:
        """End a link whose other side has broken the protocol."""
        link = self._link
        why = str(error)  # not the error itself: a log that keeps records would keep the link
        # A peer that never greeted may have been linked until this side closed the link a moment ago, with
        # messages still under way: that is nothing to warn of.
        level = logging.INFO if self._connection.remote is None else logging.WARNING
        logger.log(level, "the link to %s broke the protocol and is closed: %s", link.label, why)
        link.refusal = HandshakeError("protocol", why)
        self._outbound.send_now()
        self._note_last(error.events)
        link.lose(f"it broke the protocol: {why}")

    def _note_last(self, events: Sequence[Event]) -> None:
        """Take note of what came in front of that which broke the link, such as results: calls do not depend on how
        much comes in one message. Of a handshake nothing comes any more."""
        try:
            for event in events:
                if isinstance(event, (HelloReceived, LinkOpened)):
                    return
                self._dispatch[type(event)](event)
        except Exception:
            logger.exception("handling the last message from %s failed", self._link.label)
