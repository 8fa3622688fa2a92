"""Calls with the same key to the same peer."""

from __future__ import annotations

import bisect
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, final

from duplex._balancing import ConsistentHash
from duplex.client.balancing._base import Candidate, CandidateT
from duplex.client.balancing._least_loaded import LeastLoaded
from duplex.client.balancing._meter import Meter, Meters
from duplex.engine.calling import Request

#: Points on the ring of a peer of average weight, where there are not too many of them; and of all together at most.
_POINTS: Final = 128
_MOST_POINTS: Final = 16_384


@final
class Ring:
    """Who keys belong to: every peer has points on a ring, and each key is that of the next point.

    Args:
        candidates: the peers.
        before: the ring before, whose points are taken over: most peers stay when one comes or goes.
    """

    __slots__ = ("_of", "_owners", "_points")

    def __init__(self, candidates: Sequence[Candidate], before: Ring | None = None) -> None:
        average = sum(candidate.weight for candidate in candidates) / len(candidates)
        points = min(_POINTS, _MOST_POINTS // len(candidates))
        places = Counter(candidate.place for candidate in candidates)
        #: The points of each place, of which there are so many.
        self._of: dict[tuple[str, int], list[int]] = {}
        placed: list[tuple[int, int]] = []
        for number, candidate in enumerate(candidates):
            place = candidate.place
            if places[place] > 1:  # two of the same name that connected here
                place = f"{place} {candidate.id}"
            count = max(1, round(points * candidate.weight / average))
            known = None if before is None else before._of.get((place, count))
            if known is None:
                known = [_hash(f"{point} {place}".encode()) for point in range(count)]
            self._of[place, count] = known
            placed += ((point, number) for point in known)
        placed.sort()
        self._points = [point for point, _ in placed]
        self._owners = [number for _, number in placed]

    def after(self, key: bytes) -> Iterator[int]:
        """Tell whom a key belongs to, then to whom it goes if that one takes no more, and so on: the place of each
        candidate, once, in the order of the ring."""
        owners = self._owners
        start = bisect.bisect(self._points, _hash(key))
        seen: set[int] = set()
        for step in range(len(owners)):
            owner = owners[(start + step) % len(owners)]
            if owner not in seen:
                seen.add(owner)
                yield owner


def _hash(data: bytes) -> int:
    # The same in every process, unlike that of Python.
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def capacity(in_flight: int, max_load: float, share: float) -> int:
    """Return how many calls a peer may have under way, the next one included.

    Args:
        in_flight: those at all peers.
        max_load: how many times as many as its share one may have.
        share: its weight, as a part of that of all.
    """
    return max(1, math.ceil((in_flight + 1) * share * max_load))


@final
class Rings:
    """The ring of a service, which all keys have in common.

    Args:
        meters: how the calls of the service go.
    """

    def __init__(self, meters: Meters) -> None:
        self.meters = meters
        #: What gets the calls that have no key.
        self.rest = LeastLoaded(meters)
        self._candidates: Sequence[Candidate] = ()
        self._ring: Ring | None = None
        self._meters: list[Meter] = []
        self._shares: list[float] = []

    def choose(
        self, candidates: Sequence[CandidateT], key: bytes, max_load: float
    ) -> tuple[CandidateT, Meter]:
        """Return the candidate that gets a call with a key, and what is to be told how the call goes.

        Args:
            candidates: at least one; the same object as before if nothing has changed since.
            key: of the call.
            max_load: how many times as many calls as its share one may have.
        """
        ring = self._ring
        if ring is None or candidates is not self._candidates:
            ring = self._renew(candidates)
        in_flight = -1
        for place in ring.after(key):
            meter = self._meters[place]
            there = meter.in_flight
            if there and in_flight < 0:
                in_flight = sum(meter.in_flight for meter in self._meters)
            if not there or there < capacity(in_flight, max_load, self._shares[place]):
                return candidates[place], meter
        raise AssertionError("all together have more than all together")  # pragma: no cover

    def _renew(self, candidates: Sequence[Candidate]) -> Ring:
        """Choose among others than before; return their ring."""
        self.meters.keep([candidate.id for candidate in candidates])
        self._meters = [self.meters[candidate.id] for candidate in candidates]
        total = sum(candidate.weight for candidate in candidates)
        self._shares = [candidate.weight / total for candidate in candidates]
        self._ring = Ring(candidates, self._ring)
        self._candidates = candidates
        return self._ring


@final
class Hashing:
    """Calls with the same key go to the same peer, unless that has many more under way than its share.

    Args:
        policy: what the key is, and how many are many more.
        rings: those of the service.
    """

    def __init__(self, policy: ConsistentHash, rings: Rings) -> None:
        self._policy = policy
        self._rings = rings

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter | None]:
        """See :meth:`Balancer.choose`."""
        key = self._policy.key
        if key is None:
            key = (request.metadata or {}).get(self._policy.metadata or "")
            if key is None:
                return self._rings.rest.choose(candidates, request, now, chance)
        data = key.encode() if isinstance(key, str) else key
        return self._rings.choose(candidates, data, self._policy.max_load)
