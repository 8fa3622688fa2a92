"""What a worker needs to know of what it runs, and of where that comes from."""

from __future__ import annotations

from typing import Protocol

import trio

from duplex.engine._handler import Handler


class Source(Protocol):
    """A link that calls come over."""

    #: The pass of the event loop in which a call that came over it was cancelled last, see :meth:`Workers.keep_order`.
    cancelled_in: int

    def postpone(self, job: Job, *, before: bool = False) -> bool:
        """Keep a call that was submitted, and submit it again in the link's next turn; tell whether there will be one.

        Args:
            job: the call.
            before: it comes before those that are kept already, rather than after them.
        """


class Job(Protocol):
    """One run of a handler, as the tasks that run handlers see it."""

    @property
    def handler(self) -> Handler:
        """What is run."""

    @property
    def link(self) -> Source:
        """The link that it came over."""

    @property
    def size(self) -> int:
        """Bytes of its arguments, if they came with it."""

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
