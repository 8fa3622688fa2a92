"""One batch per event-loop tick: transmit what was queued just before the loop waits for I/O.

All that tasks queue on a link while they run in one pass of trio's scheduler goes out as one message. The
moment is :meth:`trio.abc.Instrument.before_io_wait`, which costs no task switch. Two rules come with that
place: no task may be rescheduled from it, and no exception may leave it, or trio drops the instrument.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterable
from typing import Final, Protocol, final

import trio

from duplex.engine.tasks._policy import LeaderPolicy
from duplex.engine.threads import Interpreter
from duplex.transports._base import Turns

logger = logging.getLogger("duplex")

#: Passes of the event loop in which it does not sleep, because tasks are ready, until sockets are asked all the same.
MOST_POSTPONED: Final = 8
#: Seconds for which streams may go on without a checkpoint.
LONG_PASS: Final = 0.001


class Flushable(Protocol):
    """What has messages to transmit."""

    @property
    def link(self) -> object:
        """The link that they are for."""

    @property
    def turns(self) -> Turns:
        """Those in which messages of the link come."""

    def transmit(self) -> None:
        """Hand everything that is queued to the transport."""


class Vacancy(Protocol):
    """A port that nobody reads; in practice a ``Leadership``."""

    @property
    def is_vacant(self) -> bool:
        """Whether nobody does, still."""

    def fill(self) -> None:
        """Have a worker read it."""


@final
class Flusher(trio.abc.Instrument):
    """The instrument of one ``trio.run``; made by :func:`acquire_flusher`.

    Args:
        most_postponed: passes in which the event loop does not sleep until sockets are asked all the same.
    """

    def __init__(self, most_postponed: int = MOST_POSTPONED) -> None:
        #: What goes out over links, if something is queued there: each is appended once.
        self.dirty: list[Flushable] = []
        #: Those of sockets that sent or received, and were not asked since whether a message is left (an ordered set). To ask
        #: costs a tenth of a message, and is of no use before trio waits, so it is done once for all that was done.
        self._unsettled: dict[Turns, None] = {}
        #: What a worker is to fill if nobody has at the end of this pass, or of the next one (ordered sets).
        self._vacant: dict[Vacancy, None] = {}
        self._soon_vacant: dict[Vacancy, None] = {}
        #: How often ports are vacated for callers who receive.
        self.policy = LeaderPolicy()
        #: Threads that may wait for the interpreter.
        self.interpreter = Interpreter()
        self.users = 0
        self._postponed = 0
        self._most_postponed = most_postponed
        #: Passes of the event loop so far.
        self.passes = 0
        #: The pass in which a stream asked last whether it is long, and when it becomes so.
        self._asked_in = -1
        self._long_from = math.inf

    def before_io_wait(self, timeout: float) -> None:
        """Transmit everything; called by trio before it waits for I/O, in every pass."""
        self.passes += 1
        if self.dirty:
            self._transmit()
        if self._vacant or self._soon_vacant:
            self._fill()
        if self._unsettled:
            if timeout > 0 or self._postponed >= self._most_postponed:
                self._settle()
            else:
                self._postponed += 1

    def is_pass_long(self) -> bool:
        """Whether streams have been at work in this pass of the event loop for longer than :data:`LONG_PASS`: all
        together, since the first of them asked."""
        now = trio.current_time()
        if self._asked_in != self.passes:
            self._asked_in = self.passes
            self._long_from = now + LONG_PASS
        return now >= self._long_from

    def received(self, turns: Turns) -> None:
        """Note that one was taken."""
        self._unsettled[turns] = None

    def vacated(self, vacancy: Vacancy, *, soon: bool) -> None:
        """Have a vacancy filled at the end of this pass, or ``soon``, at the end of the next one."""
        (self._soon_vacant if soon else self._vacant)[vacancy] = None

    def flush(self) -> None:
        """Transmit everything now."""
        self._transmit()
        self._settle()

    def transmit_but(self, behind: Container[object]) -> None:
        """Transmit what is queued on links that nothing more is to be done for, before it is done for those behind."""
        dirty = self.dirty
        self.dirty = [outbound for outbound in dirty if outbound.link in behind]
        self._transmit_all(outbound for outbound in dirty if outbound.link not in behind)

    def _transmit(self) -> None:
        dirty, self.dirty = self.dirty, []
        self._transmit_all(dirty)

    def _transmit_all(self, some: Iterable[Flushable]) -> None:
        for outbound in some:
            self._unsettled[outbound.turns] = None
            try:
                outbound.transmit()
            except Exception:
                logger.exception("transmitting failed")

    def _fill(self) -> None:
        vacant, self._vacant, self._soon_vacant = self._vacant, self._soon_vacant, {}
        for vacancy in vacant:
            if vacancy.is_vacant:
                # Not at once: no task may be rescheduled from here.
                trio.lowlevel.current_trio_token().run_sync_soon(vacancy.fill)

    def _settle(self) -> None:
        self._postponed = 0
        unsettled, self._unsettled = self._unsettled, {}
        for turns in unsettled:
            try:
                turns.sends_done()
            except Exception:
                logger.exception("a socket failed after sending")


_flusher: trio.lowlevel.RunVar[Flusher | None] = trio.lowlevel.RunVar("duplex-flusher", None)


def acquire_flusher() -> Flusher:
    """Return the flusher of the present ``trio.run``, installed as an instrument. Give it back with
    :func:`release_flusher`."""
    flusher = _flusher.get()
    if flusher is None:
        # Under trio.testing.MockClock no timeout tells that the loop is about to sleep: the clock jumps instead, and
        # what was left until then would be late by as much.
        can_jump = hasattr(trio.lowlevel.current_clock(), "autojump_threshold")
        flusher = Flusher(0 if can_jump else MOST_POSTPONED)
        _flusher.set(flusher)
    if flusher.users == 0:
        trio.lowlevel.add_instrument(flusher)
    flusher.users += 1
    return flusher


def release_flusher(flusher: Flusher) -> None:
    """Give the flusher back; the last user's release removes the instrument."""
    flusher.users -= 1
    if flusher.users == 0:
        flusher.flush()
        flusher.interpreter.stop()
        trio.lowlevel.remove_instrument(flusher)
