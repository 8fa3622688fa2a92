"""The pauses between attempts to connect."""

from __future__ import annotations

import random
from typing import final

from duplex._config import Reconnect


@final
class Backoff:
    """How long to wait before the next attempt: longer each time, until a connection has lasted."""

    def __init__(self, policy: Reconnect) -> None:
        self._policy = policy
        self._next = policy.initial

    def pause(self, lasted: float) -> float:
        """Return the pause after an attempt whose connection lasted for ``lasted`` seconds."""
        policy = self._policy
        if lasted >= policy.maximum:
            self._next = policy.initial
        pause, self._next = self._next, min(policy.multiplier * self._next, policy.maximum)
        return min(policy.maximum, pause * random.uniform(1 - policy.jitter, 1 + policy.jitter))
