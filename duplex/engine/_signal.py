"""Something that happens again and again, and that tasks wait for."""

from __future__ import annotations

from typing import final

import trio


@final
class Signal:
    """Wakes all tasks that wait for it, each time that it is notified.

    A task does not learn of what was notified before it waited, so it looks at what it waits for first, and again each time.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def notify(self) -> None:
        """Wake those who wait now."""
        event, self._event = self._event, trio.Event()
        event.set()

    @property
    def next(self) -> trio.Event:
        """What is set when it is notified the next time, for a task that goes on to do what may notify it, before it waits."""
        return self._event

    async def wait(self) -> None:
        """Return when it is notified the next time."""
        await self._event.wait()
