"""Of two peers, the one where the call will be answered sooner."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Sequence
from typing import Final, final

from duplex.client.balancing._base import Candidate, CandidateT
from duplex.client.balancing._meter import Meter, Meters
from duplex.engine.calling import Request

#: Latencies that differ by no more than this factor are the same: differences between equal peers are chance, and to
#: follow them would leave some out.
CLOSE: Final = 2.0


@final
class LeastLoaded:
    """Of two peers, chosen by chance, the one with the lower cost gets the call.

    The cost is (calls under way + 1) x latency ("peak EWMA"). The latency is what the calls of the service to the peer took
    lately, longer by how late its event loop runs, as it reports. Peers whose latencies are about the same are told apart by
    the number of calls, and equal ones take turns. A peer of which nothing is known gets one call, and others when that was
    answered. With weights, peers are drawn accordingly, and the cost is divided by the weight.

    Two choices, and not the best of all: many clients that all saw the same peer idle would all call it.

    Args:
        meters: how the calls of the service go.
    """

    def __init__(self, meters: Meters) -> None:
        self.meters = meters
        self._candidates: Sequence[Candidate] = ()
        #: That of each candidate.
        self._meters: list[Meter] = []
        #: The sums of the weights up to each candidate; empty if all weigh the same.
        self._sums: list[float] = []
        self._turn = 0

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter | None]:
        """See :meth:`Balancer.choose`."""
        if candidates is not self._candidates:
            self._renew(candidates)
        if self._sums:
            return self._choose_by_weight(candidates, now, chance)
        meters = self._meters
        one, other = 0, 1
        if len(meters) != 2:
            one, other = _two_of(len(meters), chance)
        meter, second = meters[one], meters[other]
        if _is_better(second, candidates[other].delay, meter, candidates[one].delay, now):
            one, meter = other, second
        self._turn = meter.turn = self._turn + 1
        return candidates[one], meter

    def _choose_by_weight(
        self, candidates: Sequence[CandidateT], now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter]:
        sums = self._sums
        one = min(bisect.bisect(sums, chance.random() * sums[-1]), len(sums) - 1)
        before = sums[one] - candidates[one].weight
        drawn = chance.random() * (sums[-1] - candidates[one].weight)
        other = bisect.bisect(sums, drawn if drawn < before else drawn + candidates[one].weight)
        if other == one or other == len(sums):  # for want of digits
            other = one - 1
        weight = candidates[other].weight / candidates[one].weight
        first, second = self._meters[one], self._meters[other]
        # None has a turn here: of those that are equal, the first one that was drawn gets the call.
        if _is_better(second, candidates[other].delay, first, candidates[one].delay, now, weight):
            return candidates[other], second
        return candidates[one], first

    def _renew(self, candidates: Sequence[Candidate]) -> None:
        """Choose among others than before."""
        self.meters.keep([candidate.id for candidate in candidates])
        self._meters = [self.meters[candidate.id] for candidate in candidates]
        weights = [candidate.weight for candidate in candidates]
        self._sums = list(itertools.accumulate(weights)) if len(set(weights)) > 1 else []
        self._candidates = candidates


def _two_of(count: int, chance: random.Random) -> tuple[int, int]:
    """Return two places of so many, by chance; the same one twice if there is no other."""
    if count == 1:
        return 0, 0
    one = int(chance.random() * count)
    other = int(chance.random() * (count - 1))
    return one, other + (other >= one)


def _is_better(
    other: Meter, other_delay: float, one: Meter, one_delay: float, now: float, weight: float = 1.0
) -> bool:
    """Whether a call goes to the other peer rather than to the one.

    Args:
        other: how calls to the other go.
        other_delay: how late its event loop runs, in seconds.
        one: how calls to the one go.
        one_delay: how late the event loop of the one runs.
        now: the time, as :func:`trio.current_time` counts.
        weight: the other's weight, as a multiple of the one's.
    """
    a = one.latency + one_delay
    b = other.latency + other_delay
    if (
        not (a <= CLOSE * b and b <= CLOSE * a)
        or (one.in_flight and now - one.since > CLOSE * a)
        or (other.in_flight and now - other.since > CLOSE * b)
    ):
        # What is known may be out of date, or not be known at all.
        if not one.latency and other.latency:
            return one.in_flight > 0
        if not other.latency and one.latency:
            return other.in_flight == 0
        a = one.estimate(now) + one_delay
        b = other.estimate(now) + other_delay
        if not (a <= CLOSE * b and b <= CLOSE * a):
            return (other.in_flight + 1) * b < (one.in_flight + 1) * a * weight
    if weight != 1.0:
        # Only if it is less loaded with the call than the one is without, or the one that weighs more, and so has a call more
        # often, would get too few.
        return other.in_flight + 1 < one.in_flight * weight
    if other.in_flight != one.in_flight:
        return other.in_flight < one.in_flight
    return other.turn < one.turn
