"""Python's garbage collector, while many handlers run.

A collection of its oldest generation looks at every object that there is, and nothing else runs meanwhile. A handler that
waits is some forty objects, so ten thousand of them keep everybody waiting for a tenth of a second; and that happens again
whenever a quarter more have come. So while many handlers run, what there is, and what such a collection has found alive, is
frozen (:func:`gc.freeze`): it is not looked at again. What dies is freed as ever, unless it is part of a cycle. To keep
these bounded everything is thawed when much more is frozen than the handlers that run account for, and when fewer run.
"""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any, Final, final

#: Handlers of one peer from which on they are many, and below which they are not any more.
MANY: Final = 256
FEW: Final = MANY // 2
#: Objects that may be frozen for each handler, beside twice as many as there were when everything was looked at last.
PER_HANDLER: Final = 100
#: How many collections pass between two looks at how much is frozen, which takes a twentieth of one that looks at all.
_LOOK: Final = 16
_OLDEST: Final = 2


@final
class Collector:
    """What this package does to the collector, of which a process has one. Peers of other threads are peers, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Who has many handlers, and how many.
        self._busy: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._is_active = False
        #: Objects that there were when everything was looked at last; ``None`` if that is due.
        self._alive: int | None = None
        self._collections = 0

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

    def _switch(self) -> None:
        if self._is_active:
            self._is_active = False
            gc.callbacks.remove(self._collected)
            gc.unfreeze()
        # If the application has frozen something, what and when is its own business.
        elif not gc.get_freeze_count():
            self._is_active = True
            gc.callbacks.append(self._collected)
            gc.freeze()
            self._alive = gc.get_freeze_count()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase != "stop" or info["generation"] != _OLDEST:
            return
        gc.freeze()
        self._collections += 1
        if self._alive is None:
            self._alive = gc.get_freeze_count()
        elif not self._collections % _LOOK:
            handlers = sum(self._busy.values())
            if gc.get_freeze_count() > 2 * self._alive + PER_HANDLER * handlers:
                self._alive = None
                gc.unfreeze()


collector: Final = Collector()
