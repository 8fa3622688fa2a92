"""Waking up on time: trio's own sleep ends up to a millisecond late, which is longer than many calls take.

epoll counts whole milliseconds, and trio rounds up. A timer of the kernel's that is waited for as for a socket
is exact to some 50 microseconds.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

import trio

_CLOCK_MONOTONIC: Final = time.CLOCK_MONOTONIC
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC


#: ``struct itimerspec``: seconds and nanoseconds of the interval, and of the time until it begins.
_Spec: Final = ctypes.c_long * 4


class Timer:
    """A timer for one task. Use as ``with Timer() as timer``.

    With a clock that is not the system's, as tests have, or where the C library has no such timers, it is no
    more exact than trio.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1

    def __enter__(self) -> Timer:
        real_time = type(trio.lowlevel.current_clock()).__name__ == "SystemClock"
        if real_time and hasattr(self._library, "timerfd_create"):
            self._descriptor = self._library.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def sleep_until(self, deadline: float) -> None:
        """Sleep until ``deadline``, in terms of :func:`trio.current_time`. A checkpoint in any case."""
        seconds = deadline - trio.current_time()
        if self._descriptor < 0 or seconds <= 0:
            await trio.sleep_until(deadline)
            return
        whole = int(seconds)
        spec = _Spec(0, 0, whole, int((seconds - whole) * 1e9) or 1)
        # What was left of an earlier sleep that was cancelled goes with it.
        self._library.timerfd_settime(self._descriptor, 0, ctypes.byref(spec), None)
        await trio.lowlevel.wait_readable(self._descriptor)
