"""One peer gets all calls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import final

from duplex.client.balancing._base import CandidateT
from duplex.client.balancing._meter import Meter
from duplex.engine.calling import Request


@final
class PickFirst:
    """The peer that has been linked for longest gets all calls, as long as it offers the service."""

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter | None]:
        """See :meth:`Balancer.choose`."""
        return candidates[0], None
