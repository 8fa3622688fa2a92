"""How many callbacks run at once for the other sides that they were passed to.

They have a share of their own, as large as that of calls, and take nothing of theirs: a peer that was passed a callback may
call it as often as it likes, and must not keep others from being served. But a call may not end before its callback
has, so one callback of each call is taken however many run: what a peer is asked in that way is bounded by what it asks.
So nested calls, however deep, go on, and nothing ever waits for room.
"""

from __future__ import annotations

from typing import Protocol, final

from duplex._config import Limits
from duplex.engine._shares import GREED
from duplex.engine.channels import CallValues


class RunsCallbacks(Protocol):
    """A link over which callbacks are called."""

    #: Those that run now.
    callbacks: int


@final
class Callbacks:
    """The callbacks of one peer that run.

    Args:
        limits: the peer's.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.max_handlers
        self._most_per_link = limits.max_handlers_per_link
        #: Those that run now.
        self.running = 0
        #: How many of them each call has.
        self._of_call: dict[CallValues, int] = {}

    def refusal(self, link: RunsCallbacks, call: CallValues) -> str | None:
        """Return why a callback is not run; ``None`` if it is.

        Args:
            link: which it was called over.
            call: the call that the function was passed in.
        """
        held = link.callbacks
        if call not in self._of_call:
            return None
        if held >= self._most_per_link:
            why = f"{held} callbacks run for this link, the limit (Limits.max_handlers_per_link)"
        elif held >= GREED * (self._most - self.running):
            why = (
                f"{held} callbacks run for this link, and {self.running} for all "
                f"(Limits.max_handlers: {self._most})"
            )
        else:
            return None
        return f"{why}; try again after a pause"

    def begin(self, link: RunsCallbacks, call: CallValues) -> None:
        """A callback is about to run."""
        self.running += 1
        link.callbacks += 1
        self._of_call[call] = self._of_call.get(call, 0) + 1

    def end(self, link: RunsCallbacks, call: CallValues) -> None:
        """A callback has ended."""
        self.running -= 1
        link.callbacks -= 1
        left = self._of_call.pop(call) - 1
        if left:
            self._of_call[call] = left
