"""What everything that waits needs, and a program without trio does not have: a task of trio's."""

from __future__ import annotations

import sys
from typing import Final

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
