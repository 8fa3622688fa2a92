"""Sleeping to a fraction of a millisecond in an event loop, which ``epoll`` alone does not offer.

Both trio and asyncio round their time-outs up to whole milliseconds, which would be most of the latency that an
open loop measures. A timerfd becomes readable at the right moment (`man timerfd_create`). Python has it since
3.13; this is the same through ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_NONBLOCK: Final = 0o4000


#: struct itimerspec: the interval, then the first time, each in seconds and nanoseconds.
_Itimerspec = ctypes.c_long * 4


class Timer:
    """A file descriptor that becomes readable when the time has come."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, until: float) -> bool:
        """Set the timer to a moment of ``time.perf_counter``; ``False`` if that has passed."""
        nanoseconds = int((until - time.perf_counter()) * 1e9)
        if nanoseconds <= 0:
            return False
        spec = _Itimerspec(0, 0, *divmod(nanoseconds, 1_000_000_000))
        if self._libc.timerfd_settime(self.fd, 0, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        return True

    def clear(self) -> None:
        """Make the descriptor unreadable again; to be called once it was readable."""
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
