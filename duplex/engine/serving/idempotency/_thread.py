"""A plain function whose result counts even if its callers have gone."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, final

import outcome
import trio


@final
class KeptThread:
    """A function that runs in a thread and, once it does, to its end, whether or not somebody still waits.

    Args:
        function: what to run.
        on_ended: called on the event loop with the outcome if the function was abandoned while it ran.
    """

    def __init__(self, function: Callable[[], Any], on_ended: Callable[[outcome.Outcome[Any]], None]) -> None:
        self._function = function
        self._on_ended = on_ended
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._started = False
        self._abandoned = threading.Event()
        #: The outcome, once there is one.
        self.ended: outcome.Outcome[Any] | None = None

    def run(self) -> outcome.Outcome[Any] | None:
        """Run the function and return its outcome; in the thread."""
        with self._lock:
            if self._abandoned.is_set():
                return None  # it was cancelled before it began, and so it never does
            self._started = True
        ended: outcome.Outcome[Any] = outcome.capture(self._function)
        with self._lock:
            self.ended = ended
            abandoned = self._abandoned.is_set()
        if abandoned:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(functools.partial(self._on_ended, ended))
        return ended

    def abandon(self) -> bool:
        """Stop waiting; return whether the function is still at work."""
        with self._lock:
            self._abandoned.set()
            return self._started and self.ended is None
