"""The pauses between attempts to connect."""

from __future__ import annotations

import random
from typing import final

from duplex._backoff import pause_after
from duplex._config import Reconnect


@final
class Backoff:
    """How long to wait before the next attempt: longer each time, until a connection has lasted."""

    def __init__(self, policy: Reconnect) -> None:
        self._policy = policy
        self._failures = 0

    def pause(self, lasted: float) -> float:
        """Return the pause after an attempt whose connection lasted for ``lasted`` seconds."""
        self._failures = 1 if lasted >= self._policy.maximum else self._failures + 1
        return pause_after(self._failures, self._policy, random.random())
