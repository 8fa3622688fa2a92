"""Python's garbage collector, while many handlers run.

A collection of its oldest generation looks at every object that there is, and nothing else runs meanwhile. A handler
that waits is some forty objects, so ten thousand of them keep everybody waiting for a tenth of a second; and that
happens again whenever a quarter more have come. So once many handlers run, or more calls have come than can be begun,
and whenever many more have come, what there is is frozen (:func:`gc.freeze`), and so is what such a collection has
found alive: it is not looked at again. What dies is freed at once, unless it is part of a cycle. And the older
generations are collected more often, so that there is little to look at each time: Python counts how many objects there
are more than before, so where new ones take the place of frozen ones, as those of many streams do, a generation may
hold fifty thousand. To keep cycles bounded everything is thawed when there is much more than the handlers that run
account for, and when fewer run.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from typing import Any, Final, final

#: Handlers of one peer from which on they are many, and below which they are not any more.
MANY: Final = 256
FEW: Final = MANY // 2
#: Blocks of memory that there may be for each handler, beside twice as many as there were when everything was looked at last.
PER_HANDLER: Final = 250
#: Collections of the youngest and of the middle generation after which the next one is that of an older one, at most.
OFTEN: Final = (1, 0)
#: Seconds between two looks how many blocks there are: each takes as long as these are many.
PAUSE: Final = 1.0
_OLDEST: Final = 2


@final
class Collector:
    """What this package does to the collector, of which a process has one. Peers of other threads are peers, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Who has many handlers, and how many.
        self._busy: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._is_active = False
        #: The thresholds of the process, as they were found and as they were left.
        self._thresholds = self._lowered = (0, 0, 0)
        #: The fewest handlers that there were since something was frozen for more of them.
        self._fewest = 0
        #: Blocks of memory that there were when everything was looked at last; 0 if that is due.
        self._alive = 0
        #: When it is looked how many there are, next.
        self._next_look = 0.0

    def note(self, who: object, handlers: int) -> None:
        """Take note of how many handlers run.

        Args:
            who: whose they are.
            handlers: their number.
        """
        if who in self._busy or handlers >= MANY:
            with self._lock:
                if handlers >= FEW:
                    self._busy[who] = handlers
                else:
                    del self._busy[who]
                if self._is_active != bool(self._busy):
                    self._switch()
                count = sum(self._busy.values())
                self._fewest = min(self._fewest, count)
                if self._is_active and count >= self._fewest + MANY:
                    self._fewest = count
                    gc.freeze()

    def _switch(self) -> None:
        if self._is_active:
            self._is_active = False
            gc.callbacks.remove(self._collected)
            if gc.get_threshold() == self._lowered:
                gc.set_threshold(*self._thresholds)
            gc.unfreeze()
        # If the application has frozen something, what and when is its own business.
        elif not gc.get_freeze_count():
            self._is_active = True
            gc.callbacks.append(self._collected)
            self._thresholds = gc.get_threshold()
            youngest, *older = self._thresholds
            gc.set_threshold(youngest, *map(min, older, OFTEN))
            self._lowered = gc.get_threshold()
            gc.freeze()
            self._fewest = sum(self._busy.values())
            self._alive = sys.getallocatedblocks()
            # There is nothing to look at now. But Python puts collections of the oldest generation off until there is a quarter
            # more than the latest one has found, and that was everything.
            gc.collect()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase != "stop" or info["generation"] != _OLDEST:
            return
        now = time.monotonic()
        if self._alive and now < self._next_look:
            gc.freeze()
            return
        self._next_look = now + PAUSE
        blocks = sys.getallocatedblocks()
        if not self._alive:
            self._alive = blocks
        elif blocks > 2 * self._alive + PER_HANDLER * sum(self._busy.values()):
            self._alive = 0
            gc.unfreeze()
            return
        gc.freeze()


collector: Final = Collector()
