"""Who receives from a port: one task at a time, and which one, changes with every call."""

# Leader and followers
# ====================
#
# trio runs tasks in passes: it takes all tasks that are ready, runs each until it waits, asks the operating system what has
# come, and begins again. Waking a task costs some microseconds, and a pass of the loop some ten. A call over a socket
# takes not much more than that in all, so what decides about its cost is how many tasks have to be woken for it, and
# in how many passes. The obvious design takes three on each side: one task reads the socket and puts what it read
# where another one finds it, which runs the handler (or, at the caller, wakes the one that has called).
#
# Here the task that reads the socket is the one that goes on with what came: it *leads* the port. A task that has to wait for
# something else hands the leadership on to another task (Schmidt et al., "Leader/Followers", 2000).
#
#  * On the side that serves, the leader is a worker (see ``_workers.py``). It begins the handlers of what came in a turn
#    itself, one after the other. Most of them end without having waited, and nothing was handed over. The first
#    one that waits keeps the task, whose coroutine it is in, and the leadership passes on to an idle worker.
#
#  * On the side that calls, a task that makes one call after the other may as well read the socket itself, while it waits
#    for the answer: then the answer is in its hands when it arrives. For that the port must have no leader at the
#    moment at which the call is made. So a worker that sees the only call of a link answered leaves the port *vacant*.
#    The next call claims it, and leaves it vacant again when it has its answer.
#
# A vacant port is one that nobody reads, so it must not stay so: whatever else comes would wait. What nobody has claimed at the end
# of a pass of the loop, a worker fills. It is the ``Flusher`` that knows when a pass ends. After a worker has vacated the
# port, the caller whom it has just answered is awake, but runs only in the next pass; so that vacancy lasts a pass longer
# (``soon``). How often a worker vacates a port at all is learnt (``_policy.py``), because a vacancy that
# nobody claims costs two changes of tasks.
#
#      state    who reads       ``task``     ``is_vacant``      goes over into
#      -----    ---------       --------     -------------      --------------
#      led      a worker        that one     False              led (another worker), when a handler waits: pass_on()
#                                                               vacant, when the only call was answered: make_room()
#      vacant   nobody          None         True               claimed, when a call is made: claim()
#                                                               led, at the end of a pass: fill()
#      claimed  a caller        None         False              vacant, when it is answered: give_up(alone=True)
#                                                               led, if other calls wait on the link: give_up(alone=False)
#
# One thing is easy to get wrong. A socket tells that something has come by an edge, once; who has waited for that owes the
# port a turn, in which what came is read. A caller that is cancelled or late leaves without having read. ``_is_turn_due``
# is the note that it leaves: the next one who claims the port takes the turn without waiting first, or it would wait for a sign
# that was given already.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Protocol, final

import trio

from duplex.engine.tasks._flush import Flusher
from duplex.transports import Port, Turns

#: Seconds after which no further part of what waits is acted on in the same turn, what has come in it and what handlers do
#: included; and how many parts it may be of each link.
_LONG: Final = 0.001
PARTS: Final = 8
#: Seconds in a pass of the event loop from which on it is one that was too long; what others then have to themselves after it,
#: in parts of the time that it took, and at most in seconds; and in how many passes.
_TOO_LONG: Final = 0.004
_RESPITE: Final = 1.0
_LONGEST_RESPITE: Final = 0.01
_MOST_RESPITES: Final = 100


class Behind(Protocol):
    """A link for which there is more to do than was done in a turn."""

    def go_on(self) -> bool:
        """Act on a little more of what has come; tell whether there is still more."""

    def lose(self, reason: str) -> None:
        """The link is over."""


class Followers(Protocol):
    """The workers, of whom one leads when nobody else does."""

    @property
    def lazily(self) -> bool:
        """Whether turns may leave for the next one what can wait; see :meth:`duplex.transports.Turns.take`."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time."""

    def follow(self, leadership: Leadership) -> None:
        """Have one of them receive."""

    def is_current(self, leadership: Leadership) -> bool:
        """Whether its port is still received from."""


@final
class Leadership:
    """The receiving in one series of turns: that from a port, or from one of its connections.

    What is said here of its state is written here alone.

    Attributes:
        port: whose they are.
        turns: the turns.
        task: the worker that takes them; ``None`` if nobody does, or a caller.
        is_vacant: nobody does, and a caller may.
        has_idle_caller: in the last turn the only call on the link was answered.
        backlog: links of the port for which there is more to do than was done in a turn, in the order of their turns (an
            ordered set).
        error: what ended it before the port did.
    """

    __slots__ = (
        "_answers",
        "_began",
        "_flusher",
        "_fresh",
        "_is_turn_due",
        "_over",
        "_parts",
        "_pass",
        "_respite_until",
        "_respites",
        "_until",
        "_was_fresh",
        "_workers",
        "backlog",
        "error",
        "has_idle_caller",
        "is_vacant",
        "port",
        "task",
        "turns",
    )

    def __init__(self, workers: Followers, flusher: Flusher, port: Port, turns: Turns) -> None:
        self._workers = workers
        self._flusher = flusher
        self.port = port
        self.turns = turns
        self.task: trio.lowlevel.Task | None = None
        self.is_vacant = False
        self.has_idle_caller = False
        #: A caller waits for the next turn, or has left without having taken it.
        self._is_turn_due = False
        self.backlog: dict[Behind, None] = {}
        #: Those of them that had no turn yet. They come first: who has little to do is not to wait until all have had theirs
        #: who have much. (So does the "fair queuing, controlled delay" of RFC 8290.)
        self._fresh: dict[Behind, None] = {}
        #: The latest turn was that of one of them.
        self._was_fresh = False
        #: The latest pass of the event loop with a turn in which something waited, until when that may go on, and how many
        #: parts of what waited were acted on.
        self._pass = -1
        self._began = 0.0
        self._until = 0.0
        self._parts = 0
        #: Until when others have the event loop to themselves, and for how many more passes at most.
        self._respite_until = 0.0
        self._respites = 0
        self.error: BaseException | None = None
        self._over = trio.Event()
        #: Calls that received their answers since the port was vacated.
        self._answers = 0

    # -- for the task that leads------------------------------------------------------------------------

    def take(self, entirely: bool = True) -> bool:
        """Take a turn; tell whether to go on.

        Args:
            entirely: with all that is to be done in it for links that have a backlog; if not, the caller goes on with
                :meth:`go_on`.
        """
        self.has_idle_caller = False
        self._is_turn_due = False
        try:
            if self.turns.take(lazily=self._workers.lazily):
                self._flusher.received(self.turns)
                if self.backlog and entirely:
                    while self.backlog and self.go_on():
                        pass
                return True
        except BaseException as error:
            # Ctrl-C too: what came beside it is lost, so this is the end of the peer, whichever task has taken the turn.
            self.fail(error)
        self._over.set()
        return False

    def begin(self) -> None:
        """Count the time of a turn from now on, in which something waits."""
        now = self._workers.clock()
        took = now - self._began
        if self._pass == self._flusher.passes - 1 and self._parts and took >= _TOO_LONG:
            # One call took so long. The next one may, too, and who is answered in several passes is not to wait for one in each.
            self._respite_until = now + min(_RESPITE * took, _LONGEST_RESPITE)
            self._respites = _MOST_RESPITES
        self._pass = self._flusher.passes
        self._began = now
        self._until = now + _LONG
        self._parts = 0

    def is_long(self) -> bool:
        """Whether the turn has been long enough. It begins when this is asked first, unless :meth:`begin` said so."""
        if self._pass != self._flusher.passes:
            self.begin()
            return False
        return self._workers.clock() >= self._until

    def end(self) -> None:
        """Leave what waits to the next turn: this one has been long enough."""
        self._until = -math.inf
        self._parts = max(self._parts, 1)

    def go_on(self) -> bool:
        """Act on one more part of what waits for its turn, that of the link whose turn it is; tell whether it was
        done, or is left for the next turn: this one has been long enough, or the one before was much too long. Else one part it
        is always."""
        is_long = self.is_long()
        backlog = self.backlog
        if not self._parts:
            if self._respites:
                self._respites -= 1
                if self._workers.clock() < self._respite_until:
                    return False
                self._respites = 0
            # What others are answered need not wait for it.
            self._flusher.transmit_but(backlog)
        elif is_long or self._parts >= PARTS * len(backlog):
            return False
        self._parts += 1
        fresh = self._fresh
        # In turn with the others, so that those who come and go do not keep these from theirs.
        self._was_fresh = bool(fresh) and not self._was_fresh
        link = next(iter(fresh if self._was_fresh else backlog))
        fresh.pop(link, None)
        del backlog[link]
        if link.go_on():
            backlog[link] = None
        return True

    def fail(self, error: BaseException) -> None:
        """Note what ends the receiving, and that it has ended."""
        self.error = error
        self._over.set()

    def wait_for_turn(self, link: Behind) -> None:
        """There is more to do for a link than can be done in this turn."""
        self.backlog[link] = self._fresh[link] = None

    def note_idle_caller(self) -> None:
        """The only call on the link was answered, in the turn that is being taken."""
        self.has_idle_caller = True

    async def wait_over(self) -> None:
        """Return once nothing comes any more; raises what ended it before the port did."""
        await self._over.wait()
        if self.error is not None:
            raise self.error

    # -- for the worker that leads ---------------------------------------------------------------------

    def led_by(self, task: trio.lowlevel.Task) -> None:
        """A worker leads from now on."""
        self.task = task

    def pass_on(self) -> None:
        """Have another worker lead."""
        self.task = None
        self.is_vacant = False
        self._workers.follow(self)

    def make_room(self) -> bool:
        """Vacate the port for a caller, if that has been worth while lately; tell whether it was done."""
        if not self._flusher.policy.may_vacate():
            return False
        self._answers = 0
        # The caller that was answered is awake, but comes only in the next pass of the loop.
        self._vacate(soon=True)
        return True

    # -- for a caller ----------------------------------------------------------------------------------

    def claim(self) -> None:
        """Lead a port that is vacant, until :meth:`give_up`."""
        self.is_vacant = False

    async def wait_turn(self) -> None:
        """Wait until there may be a turn to take. Cancelled, it leaves the turn to the next one."""
        if not self._is_turn_due:
            self._is_turn_due = True
            if self.backlog:
                await trio.lowlevel.checkpoint()
            else:
                await self.turns.wait()

    def give_up(self, *, alone: bool) -> None:
        """Lead no longer: the call was answered, or is waited for no more.

        Args:
            alone: there is no other call on the link.
        """
        self._answers += 1
        if alone:
            self._vacate(soon=False)
        else:
            self.pass_on()

    # -- at the end of a pass of the event loop --------------------------------------------------------

    def _vacate(self, *, soon: bool) -> None:
        self.task = None
        self.is_vacant = True
        self._flusher.vacated(self, soon=soon)

    def fill(self) -> None:
        """Have a worker lead, if nobody has claimed the port."""
        if self.is_vacant and not self._over.is_set() and self._workers.is_current(self):
            self._flusher.policy.filled(self._answers)
            self.pass_on()
