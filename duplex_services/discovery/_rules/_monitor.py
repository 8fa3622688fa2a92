"""What several checks of an instance come to, and which server makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from duplex_services.discovery._model import Check, Health

#: Seconds between checks until the first success: who has just begun is well soon. After so many of them each pause is longer by a
#: tenth, as who is not well by then may never be.
START_INTERVAL: Final = 0.1
_START_CHECKS: Final = 30
_START_GROWTH: Final = 1.1


class Result(msgspec.Struct, frozen=True):
    """What one check found.

    Attributes:
        health: how the instance is.
        note: why, for a human.
    """

    health: Health
    note: str = ""


class Monitor(msgspec.Struct, frozen=True):
    """What is known from the checks so far.

    Attributes:
        threshold: checks in a row that must agree before the health changes.
        health: what they came to; ``None`` before the first success, until which nothing is said.
        other: another health that the last checks found.
        count: how many of them in a row; before the first success, how many there were.
    """

    threshold: int
    health: Health | None = None
    other: Health | None = None
    count: int = 0

    def take(self, found: Health) -> Monitor:
        """Return what is known after one more check."""
        if self.health is None:
            is_well = found != "critical"
            return Monitor(self.threshold, found if is_well else None, None, 0 if is_well else self.count + 1)
        if found == self.health:
            return Monitor(self.threshold, self.health)
        count = self.count + 1 if found == self.other else 1
        if count >= self.threshold:
            return Monitor(self.threshold, found)
        return Monitor(self.threshold, self.health, found, count)

    def pause(self, check: Check) -> float:
        """Return the seconds until the next check."""
        if self.health is not None:
            return check.interval
        # A hundred times a tenth longer is more than the longest interval.
        late = min(max(0, self.count - _START_CHECKS), 150)
        return float(min(START_INTERVAL * _START_GROWTH**late, check.interval))


def checker_of(service: str, id: str, servers: Iterable[str]) -> str | None:
    """Return which of the servers that live checks an instance: each has its share, and when one goes only its own move.

    Args:
        service: of which service.
        id: which instance.
        servers: their names; ``None`` is returned if there are none.
    """

    def weight(server: str) -> bytes:
        return hashlib.blake2b(f"{server}\0{service}\0{id}".encode(), digest_size=8).digest()

    return max(servers, key=weight, default=None)
