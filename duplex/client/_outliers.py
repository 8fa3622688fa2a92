"""Peers that fail more often than others; see :class:`duplex.OutlierDetection`."""

from __future__ import annotations

import random
import statistics
from collections.abc import Collection, Sequence
from typing import Final, final

from duplex._policies import OutlierDetection

#: The factor of the standard deviation is given in thousandths.
_THOUSANDTHS: Final = 1000


@final
class _Peer:
    """One peer: how its calls have ended in the present interval, and whether it is ejected."""

    __slots__ = ("ejected_at", "failed", "multiplier", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        #: Since when it is ejected; ``None`` if it is not.
        self.ejected_at: float | None = None
        #: How often it was ejected lately.
        self.multiplier = 0

    @property
    def calls(self) -> int:
        return self.succeeded + self.failed

    @property
    def is_untouched(self) -> bool:
        """Whether it is as if it were new."""
        return not (self.calls or self.multiplier or self.ejected_at is not None)


@final
class Outliers:
    """The peers that offer one service, compared from time to time.

    Args:
        policy: how they are compared.
        chance: for decisions that are made in some cases only.
        now: the time, as :func:`trio.current_time` counts.
    """

    def __init__(self, policy: OutlierDetection, chance: random.Random, now: float) -> None:
        self._policy = policy
        self._chance = chance
        self._peers: dict[str, _Peer] = {}
        #: When they are compared next.
        self.due = now + policy.interval

    def is_ejected(self, peer: str) -> bool:
        """Whether a peer gets no calls."""
        found = self._peers.get(peer)
        return found is not None and found.ejected_at is not None

    def note(self, peer: str, *, has_failed: bool) -> None:
        """Note how a call has ended."""
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = _Peer()
        if has_failed:
            found.failed += 1
        else:
            found.succeeded += 1

    def compare(self, present: Collection[str], now: float) -> list[str]:
        """Compare the peers, if that is due, and return those that are ejected from now on.

        Args:
            present: the peers that offer the service; of others nothing is kept, but for how long they are ejected.
            now: the time, as :func:`trio.current_time` counts.
        """
        if now < self.due:
            return []
        policy = self._policy
        self.due = now + policy.interval
        peers = {peer: self._peers.get(peer) or _Peer() for peer in present}
        before = {peer for peer, found in peers.items() if found.ejected_at is not None}
        self._judge_success_rates(peers, now)
        self._judge_failures(peers, now)
        for found in self._peers.values():
            found.succeeded = found.failed = 0
            if found.ejected_at is None:
                found.multiplier = max(0, found.multiplier - 1)
            else:
                longest = max(policy.base_ejection_time, policy.max_ejection_time)
                if now >= found.ejected_at + min(policy.base_ejection_time * found.multiplier, longest):
                    found.ejected_at = None
        self._peers = {peer: found for peer, found in (self._peers | peers).items() if not found.is_untouched}
        return [peer for peer, found in peers.items() if found.ejected_at is not None and peer not in before]

    def _judge_success_rates(self, peers: dict[str, _Peer], now: float) -> None:
        policy = self._policy
        seen = [found for found in peers.values() if found.calls >= policy.success_rate_request_volume]
        if len(seen) < policy.success_rate_minimum_hosts:
            return
        rates = [found.succeeded / found.calls for found in seen]
        deviation = statistics.pstdev(rates) * policy.success_rate_stdev_factor / _THOUSANDTHS
        required = statistics.fmean(rates) - deviation
        bad = [found for found, rate in zip(seen, rates, strict=True) if rate < required]
        self._eject(bad, peers, policy.success_rate_enforcement, now)

    def _judge_failures(self, peers: dict[str, _Peer], now: float) -> None:
        policy = self._policy
        seen = [found for found in peers.values() if found.calls >= policy.failure_percentage_request_volume]
        if len(seen) < policy.failure_percentage_minimum_hosts:
            return
        threshold = policy.failure_percentage_threshold
        bad = [found for found in seen if 100 * found.failed > threshold * found.calls]
        self._eject(bad, peers, policy.failure_percentage_enforcement, now)

    def _eject(self, bad: Sequence[_Peer], peers: dict[str, _Peer], enforcement: int, now: float) -> None:
        """Eject peers, as far as not too many are ejected already."""
        ejected = sum(found.ejected_at is not None for found in peers.values())
        for found in bad:
            if found.ejected_at is not None:
                continue
            if 100 * ejected >= self._policy.max_ejection_percent * len(peers):
                return
            if 100 * self._chance.random() >= enforcement:
                continue
            found.ejected_at = now
            found.multiplier += 1
            ejected += 1
