"""What a policy is, and what it sees of the peers that it chooses from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from duplex.client.balancing._meter import Meter
from duplex.engine.calling import Request


class Candidate(Protocol):
    """A peer that offers the service, as a policy sees it."""

    @property
    def id(self) -> str:
        """Which peer it is; the same for as long as it is linked."""

    @property
    def place(self) -> str:
        """Where it is: the endpoint that was connected, or its name. The same when it is linked again."""

    @property
    def weight(self) -> float:
        """How many calls it is to get, as a multiple of what others get."""

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
    ) -> tuple[CandidateT, Meter | None]:
        """Return the candidate that gets a call, and what is to be told how the call goes, if the policy asks for that.

        Args:
            candidates: at least one, in the order in which they were linked. The same object as before if nothing has
                changed since, their weights included.
            request: the call: its method, its metadata, its idempotency key.
            now: the time, as :func:`trio.current_time` counts.
            chance: for decisions that are left to chance.
        """
