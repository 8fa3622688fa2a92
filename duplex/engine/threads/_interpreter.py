"""Threads that need the interpreter while the event loop is busy.

Python takes the interpreter from a thread that goes on and on only after 5 ms (``sys.getswitchinterval``). An event loop
that has more to do lets go of it between two passes, but for the microsecond that a look at its descriptors takes, in
which no other thread wakes up. So a plain handler would begin 5 ms after its call has come, and its result would come
5 ms after its end, only because somebody else keeps the loop busy. Therefore a busy loop waits for those that are to
begin, and lets go once or twice more for those that have begun: they may need the interpreter again before they can say
that they have ended, as trio gives each thread its name back. For handlers that take no time that is enough. All of these
are moments: the loop has others to serve.
"""

from __future__ import annotations

import queue
import time
from typing import Final, final

import trio

#: Seconds that a busy event loop waits, in one pass, until all have begun.
LONGEST: Final = 0.001
#: Seconds for which it lets go of the interpreter for those that have begun, and in how many passes. The shortest sleep
#: that there is takes about as long again.
MOMENT: Final = 0.00005
_MOMENTS: Final = 2


@final
class Interpreter(trio.abc.Instrument):
    """Who needs it; of all peers of a ``trio.run``, whose instrument this is from the first thread on.

    Attributes:
        waiting: what stands for each thread that was given something to do and has not begun (an ordered set). It may
            have in the meantime; :meth:`let_go` looks.
    """

    def __init__(self) -> None:
        self._is_instrument = False
        self.waiting: dict[object, None] = {}
        #: Those that have begun and not ended, and how many moments they still get.
        self._begun: dict[object, int] = {}
        #: Those that have begun since somebody looked.
        self._news: queue.SimpleQueue[object] = queue.SimpleQueue()

    def give(self, who: object) -> None:
        """A thread is given something to do."""
        if not self._is_instrument:
            self._is_instrument = True
            trio.lowlevel.add_instrument(self)
        self.waiting[who] = None

    def begin(self, who: object) -> None:
        """It begins with that. Called in the thread."""
        self._news.put(who)

    def end(self, who: object) -> None:
        """It has ended, or there was no thread for it."""
        self._look()
        self.waiting.pop(who, None)
        self._begun.pop(who, None)

    def stop(self) -> None:
        """Be no instrument any more."""
        if self._is_instrument:
            self._is_instrument = False
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio before it waits for I/O, which it does not if it has more to do."""
        if timeout <= 0 and (self.waiting or self._begun):
            self.let_go()

    def let_go(self) -> None:
        """Let threads have the interpreter: until all have begun, but no longer than :data:`LONGEST`, and for a moment
        those that have."""
        self._look()
        until = time.monotonic() + LONGEST
        while self.waiting and (left := until - time.monotonic()) > 0:
            try:
                self._note(self._news.get(timeout=left))
            except queue.Empty:
                break
        if self._begun:
            time.sleep(MOMENT)
            self._begun = {who: left - 1 for who, left in self._begun.items() if left > 1}

    def _look(self) -> None:
        while not self._news.empty():
            self._note(self._news.get_nowait())

    def _note(self, who: object) -> None:
        if who in self.waiting:
            del self.waiting[who]
            self._begun[who] = _MOMENTS
