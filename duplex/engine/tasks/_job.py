"""What a worker needs to know of what it runs."""

from __future__ import annotations

from typing import Protocol

import trio

from duplex.engine._handler import Handler


class Job(Protocol):
    """One run of a handler, as the tasks that run handlers see it."""

    @property
    def handler(self) -> Handler:
        """What is run."""

    @property
    def method(self) -> str:
        """``service.method``."""

    @property
    def deadline(self) -> float | None:
        """When it has to end, as :func:`trio.current_time` counts; ``None`` if never."""

    @property
    def was_cut(self) -> bool:
        """Whether the scope that it runs in may have been cancelled."""

    async def run(self, scope: trio.CancelScope) -> None:
        """Run the handler in a task's scope, which has the deadline, and answer."""

    def ended(self) -> None:
        """The task goes on to other things."""
