"""The wait of a port: for a descriptor, or until somebody wakes it."""

from __future__ import annotations

import contextlib
from typing import final

import trio


@final
class Waiting:
    """One task waits at a time; any synchronous code of the trio thread may wake it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._fd: int | None = None
        self._is_woken = False

    async def wait(self, fd: int) -> None:
        """Return when the descriptor is readable, or at once if :meth:`wake` was called since the last :meth:`begin`."""
        if self._is_woken:
            await trio.lowlevel.checkpoint()
            return
        self._fd = fd
        try:
            await trio.lowlevel.wait_readable(fd)
        except trio.ClosedResourceError:
            pass  # _interrupt() uses this to end the wait; the descriptor is as it was
        finally:
            self._fd = None

    def begin(self) -> None:
        """A turn begins: what was known before is going to be acted on."""
        self._is_woken = False

    def wake(self) -> None:
        """End the wait, or the next one. Reschedules nothing itself, as that must not be done from an instrument."""
        self._is_woken = True
        if self._fd is not None:
            with contextlib.suppress(trio.RunFinishedError):  # the port outlived its run, so nobody waits
                self._token.run_sync_soon(self._interrupt, idempotent=True)

    def _interrupt(self) -> None:
        if self._fd is not None:
            trio.lowlevel.notify_closing(self._fd)

    def leave(self) -> None:
        """Take the waiting task off its descriptor, which is going to be closed."""
        self._is_woken = True
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and the task with it
            self._interrupt()
