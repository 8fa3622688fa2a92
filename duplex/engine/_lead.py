"""The receiving from a port: which task does it, and how it passes from one to the next.

One task at a time *leads* a port: it takes the port's turns and waits in between. As a rule that is a worker
(:mod:`duplex.engine._workers`). A caller that makes one call after the other does it itself: its own task waits for
the answer, and goes on as soon as that is there. So no other task has to be woken first, which would take a
further pass of trio's event loop.

The worker makes room for such a caller after the answer to the only call on the link: it *vacates* the lead. The
caller's next call takes it, and vacates it again when it returns. What nobody has taken at the end of the pass in which
a caller could, a worker fills. That costs as much as several calls gain, so if fewer than :data:`_WORTH_IT` callers have
come in between, room is made ever more rarely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import trio

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink
    from duplex.engine._workers import Workers
    from duplex.transports import Port, Turns

#: Room was worth making if so many calls have received their answers themselves before it had to be filled.
_WORTH_IT: Final = 8
#: Seconds after which no further part of what waits is acted on in the same turn, what has come in it and what handlers do
#: included; and how many parts it may be of each link.
_LONG: Final = 0.001
PARTS: Final = 8
#: Room is made at least once in so many turns that it could be.
_MOST_TURNS: Final = 1024


@final
class Room:
    """How often room is made; for all ports of a ``trio.run`` together, because calls that go round many links come back
    to each one too rarely to learn from."""

    __slots__ = ("pause", "turns_to_pass")

    def __init__(self) -> None:
        #: For how many turns room is not made, and how many of them are left.
        self.pause = 0
        self.turns_to_pass = 0


@final
class Lead:
    """The receiving from one port; one for each series of turns.

    Attributes:
        port: whose turns they are.
        turns: the turns.
        task: who takes them; ``None`` if nobody does, or a caller.
        is_vacant: nobody does, and a caller may.
        has_idle_caller: in the last turn the only call on the link was answered.
        is_turn_due: a caller waits for the next turn, or has left without having taken it. Whoever leads then takes
            it without a wait: there may be no second sign that something has come.
    """

    __slots__ = (
        "_answers",
        "_flusher",
        "_over",
        "_parts",
        "_pass",
        "_until",
        "_workers",
        "backlog",
        "error",
        "has_idle_caller",
        "is_turn_due",
        "is_vacant",
        "port",
        "task",
        "turns",
    )

    def __init__(self, workers: Workers, port: Port, turns: Turns) -> None:
        self._workers = workers
        self._flusher = workers.flusher
        self.port = port
        self.turns = turns
        self.task: trio.lowlevel.Task | None = None
        self.is_vacant = False
        self.has_idle_caller = False
        self.is_turn_due = False
        #: Links of the port for which there is more to do than was done in a turn, in the order of their turns (an
        #: ordered set).
        self.backlog: dict[BaseLink, None] = {}
        #: The latest pass of the event loop with a turn in which something waited, until when that may go on, and how many
        #: parts of what waited were acted on.
        self._pass = -1
        self._until = 0.0
        self._parts = 0
        #: What ended it before the port did.
        self.error: BaseException | None = None
        self._over = trio.Event()
        #: Calls that received their answers since room was made.
        self._answers = 0

    def take(self, entirely: bool = True) -> bool:
        """Take a turn; tell whether to go on.

        Args:
            entirely: with all that is to be done in it for links that have a backlog; if not, whoever asks goes on with
                :meth:`go_on`.
        """
        self.has_idle_caller = False
        self.is_turn_due = False
        try:
            if self.turns.take(lazily=self._workers.lazily):
                self._flusher.unsettled[self.port] = None
                if self.backlog and entirely:
                    while self.backlog and self.go_on():
                        pass
                return True
        except BaseException as error:
            # Ctrl-C too: what came beside it is lost, so this is the end of the peer, whoever has taken the turn.
            self.fail(error)
        self._over.set()
        return False

    def begin(self) -> None:
        """Count the time of a turn from now on, in which something waits."""
        self._pass = self._flusher.passes
        self._until = self._workers.clock() + _LONG
        self._parts = 0

    def go_on(self) -> bool:
        """Act on one more part of what waits for its turn, that of the link whose turn it is; tell whether it was
        done, or is left for the next turn: this one has been long enough. One part it is always."""
        if self._pass != self._flusher.passes:
            self.begin()
        backlog = self.backlog
        if self._parts and (self._parts >= PARTS * len(backlog) or self._workers.clock() >= self._until):
            return False
        self._parts += 1
        link = next(iter(backlog))
        del backlog[link]
        if link.go_on():
            backlog[link] = None
        return True

    def fail(self, error: BaseException) -> None:
        """Note what ends the receiving, and that it has ended."""
        self.error = error
        self._over.set()

    async def wait_over(self) -> None:
        """Return once nothing comes any more; raises what ended it before the port did."""
        await self._over.wait()
        if self.error is not None:
            raise self.error

    def make_room(self) -> bool:
        """Vacate the lead, whose worker asks, if that has been worth while lately; tell whether it was done."""
        room = self._flusher.room
        if room.turns_to_pass:
            room.turns_to_pass -= 1
            return False
        self._answers = 0
        # The caller that was answered is awake, but comes only in the next pass of the loop.
        self._vacate(self._flusher.soon_vacant)
        return True

    def give_up(self, *, alone: bool) -> None:
        """Leave the lead, as a caller who is answered, or waits no more.

        Args:
            alone: there is no other call on the link.
        """
        self._answers += 1
        if alone:
            self._vacate(self._flusher.vacant)
        else:
            self._workers.pass_on(self)

    def _vacate(self, waiting: dict[Lead, None]) -> None:
        self.task = None
        self.is_vacant = True
        waiting[self] = None

    def fill(self) -> None:
        """Let a worker take the lead, if nobody has."""
        if not self.is_vacant or self._over.is_set() or self._workers.leads.get(self.port) is not self:
            return
        room = self._flusher.room
        room.pause = 0 if self._answers >= _WORTH_IT else min(_MOST_TURNS, 2 * room.pause + 1)
        room.turns_to_pass = room.pause
        self._workers.pass_on(self)
