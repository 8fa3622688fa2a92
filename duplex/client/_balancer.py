"""Which of the peers that offer a service gets a call: policies that decide, and know nothing of links."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar, final

from duplex.engine.calling import Request


class Candidate(Protocol):
    """A peer that offers the service, as a policy sees it."""

    @property
    def id(self) -> str:
        """Which peer it is; the same for as long as it is linked."""

    @property
    def in_flight(self) -> int:
        """Calls of this side, to any service, that are under way there."""

    @property
    def round_trip(self) -> float | None:
        """Seconds that a message to its event loop and back took lately; ``None`` before the first measurement."""

    @property
    def delay(self) -> float:
        """Seconds by which its event loop ran a timer late, as it said last: how busy it is."""


CandidateT = TypeVar("CandidateT", bound=Candidate)


class Balancer(Protocol):
    """A policy, which deals the calls of one service out.

    It decides by what it is given and by what it remembers of its own decisions; time and chance are arguments.
    """

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> CandidateT:
        """Return the candidate that gets a call.

        Args:
            candidates: at least one, in the order in which they were linked. The same object as before if nothing has
                changed since.
            request: the call: its method, its metadata, its idempotency key.
            now: the time, as :func:`trio.current_time` counts.
            chance: for decisions that are left to chance.
        """


@final
class RoundRobin:
    """Each peer gets a call in its turn.

    Nobody is left out, or asked twice, when others come and go. Who comes is the last one of the round.
    """

    def __init__(self) -> None:
        self._candidates: Sequence[Candidate] = ()
        #: The place of the one whose turn is next.
        self._next = 0

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> CandidateT:
        """See :meth:`Balancer.choose`."""
        if candidates is not self._candidates:
            self._next = self._place_in(candidates)
            self._candidates = candidates
        place = self._next
        # With a new round: who comes meanwhile, again and again even, waits for its end.
        self._next = place + 1 if place + 1 < len(candidates) else 0
        return candidates[place]

    def _place_in(self, candidates: Sequence[Candidate]) -> int:
        """Return whose turn is next among others than before: it still is that of the first one who waits for it."""
        places = {candidate.id: place for place, candidate in enumerate(candidates)}
        return next(
            (places[waiting.id] for waiting in self._candidates[self._next :] if waiting.id in places), 0
        )
