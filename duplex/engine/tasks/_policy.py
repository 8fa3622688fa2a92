"""How often a worker gives up receiving for a caller who may do it himself: a decision, made of what came of it before."""

from __future__ import annotations

from typing import Final, final

#: A vacancy was worth while if so many calls have received their answers themselves before it had to be filled.
_WORTH_IT: Final = 8
#: One is made at least once in so many turns in which it could be.
_MOST_TURNS: Final = 1024


@final
class LeaderPolicy:
    """For all ports of a ``trio.run`` together, because calls that go round many links come back to each one too rarely to
    learn from.

    A vacancy that a worker has to fill costs as much as several calls gain. If fewer than :data:`_WORTH_IT` callers have
    received in one, the next one is made after 1, 3, 7, 15 ... turns in which it could have been.
    """

    __slots__ = ("_pause", "_turns_to_pass")

    def __init__(self) -> None:
        #: For how many turns none is made, and how many of them are left.
        self._pause = 0
        self._turns_to_pass = 0

    def may_vacate(self) -> bool:
        """Whether a vacancy is to be made in this turn, in which it could be."""
        if self._turns_to_pass:
            self._turns_to_pass -= 1
            return False
        return True

    def filled(self, answers: int) -> None:
        """Note that a worker had to fill a vacancy, in which so many calls received their answers themselves."""
        self._pause = 0 if answers >= _WORTH_IT else min(_MOST_TURNS, 2 * self._pause + 1)
        self._turns_to_pass = self._pause
