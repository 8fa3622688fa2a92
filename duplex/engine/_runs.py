"""What everything that waits needs, and a program without trio does not have: a task of trio's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, Final, final

import trio

_ADVICE: Final = (
    "start the program with trio.run(main), a notebook's cell as well. A program that is asyncio's gives Duplex a "
    "thread of its own in which trio.run(...) runs, and calls from there with trio.from_thread.run(...); or runs "
    "trio in guest mode (trio.lowlevel.start_guest_run)"
)


def check_run() -> None:
    """Raise ``RuntimeError`` that says what to do if the caller is no task of trio's.

    Without this, trio itself would say "must be called from async context", and asyncio "Task got bad yield".
    """
    if not trio.lowlevel.in_trio_task():
        raise outside_trio()


def outside_trio() -> RuntimeError:
    """Return the error for what was called outside of trio."""
    asyncio = sys.modules.get("asyncio")  # not imported for this: where its loop runs, it is there
    if asyncio is not None and asyncio._get_running_loop() is not None:
        where = "this is called from a task of asyncio's"
    else:
        where = "this is not called from a task of trio's"
    return RuntimeError(f"Duplex runs on trio, and {where}: {_ADVICE}")


@final
class EventLoop:
    """The run of trio's that a peer belongs to, for what handlers in threads may ask and do as well."""

    def __init__(self) -> None:
        self._clock = trio.lowlevel.current_clock()
        self._token = trio.lowlevel.current_trio_token()

    def time(self) -> float:
        """Return what :func:`trio.current_time` returns in a task of the run."""
        return self._clock.current_time()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function on the event loop: at once if this is it. From a thread soon, in the order in which it is
        asked for, and before what the thread returns has come."""
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            function(*args)
            return
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)
