"""Each peer in its turn."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import final

from duplex.client.balancing._base import Candidate, CandidateT
from duplex.client.balancing._meter import Meter
from duplex.engine.calling import Request


@final
class RoundRobin:
    """Each peer gets a call in its turn; with weights, as many more turns as its weight says, evenly spread.

    Nobody is left out, or asked twice, when others come and go. Who comes is the last one of the round.
    """

    def __init__(self) -> None:
        self._candidates: Sequence[Candidate] = ()
        #: The place of the one whose turn is next, if all weigh the same.
        self._next = 0
        #: If they do not: whose turn is when, in a time that moves by the reciprocal of a weight with each turn (a heap
        #: of times, and places among the candidates).
        self._turns: list[tuple[float, int]] = []

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter | None]:
        """See :meth:`Balancer.choose`."""
        if candidates is not self._candidates:
            self._renew(candidates)
        if self._turns:
            time, place = self._turns[0]
            heapq.heapreplace(self._turns, (time + 1.0 / candidates[place].weight, place))
            return candidates[place], None
        place = self._next
        # With a new round: who comes meanwhile, again and again even, waits for its end.
        self._next = place + 1 if place + 1 < len(candidates) else 0
        return candidates[place], None

    def _renew(self, candidates: Sequence[Candidate]) -> None:
        """Go on among others than before."""
        if len({candidate.weight for candidate in candidates}) > 1:
            times = {self._candidates[place].id: time for time, place in self._turns}
            begin = min(times.values(), default=0.0)
            self._turns = [
                # Who weighs more than before does not wait as long as it would have had to.
                (
                    min(
                        times.get(candidate.id, begin + 0.5 / candidate.weight),
                        begin + 1.0 / candidate.weight,
                    ),
                    place,
                )
                for place, candidate in enumerate(candidates)
            ]
            heapq.heapify(self._turns)
        else:
            self._next = self._place_in(candidates)
            self._turns = []
        self._candidates = candidates

    def _place_in(self, candidates: Sequence[Candidate]) -> int:
        """Return whose turn is next among others than before: it still is that of the first one who waits for it."""
        places = {candidate.id: place for place, candidate in enumerate(candidates)}
        return next(
            (places[waiting.id] for waiting in self._candidates[self._next :] if waiting.id in places), 0
        )
