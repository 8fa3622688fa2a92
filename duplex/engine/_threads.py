"""Plain functions and generators, which run in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, final

#: What a generator gives when it has ended.
END_OF_ITEMS: Final = object()


def run_plain(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a plain function, in a thread."""
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt as error:
        # Ctrl-C strikes the main thread only, so this one is the function's own, and no reason to end the peer.
        raise RuntimeError("the function raised KeyboardInterrupt in a thread") from error


@final
class ThreadedGenerator:
    """A plain generator whose steps run in threads, which may be abandoned in the middle of one."""

    def __init__(self, generator: Generator[Any, Any, Any]) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._running = False
        self._abandoned = False

    def next(self) -> Any:
        """Return the next item, or ``END_OF_ITEMS``; in a thread."""
        if not self._enter():
            return END_OF_ITEMS
        try:
            return run_plain(next, (self._generator, END_OF_ITEMS), {})
        finally:
            if self._leave():
                self._generator.close()

    def _enter(self) -> bool:
        with self._lock:
            self._running = not self._abandoned
            return self._running

    def _leave(self) -> bool:
        with self._lock:
            self._running = False
            return self._abandoned

    def must_be_closed(self) -> bool:
        """Give the generator up. If a thread is in it that thread closes it, else the caller has to."""
        with self._lock:
            self._abandoned = True
            return not self._running
