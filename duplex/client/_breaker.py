"""Circuits that open when calls fail, one after the other; see :class:`duplex.CircuitBreaker`."""

from __future__ import annotations

import math
from typing import final

from duplex._policies import CircuitBreaker


@final
class Circuit:
    """Whether one peer gets calls of one service.

    Args:
        policy: when it does not.
    """

    __slots__ = ("_failures", "_open_until", "_policy", "_probed_at", "_probes")

    def __init__(self, policy: CircuitBreaker) -> None:
        self._policy = policy
        #: Calls that have failed in a row.
        self._failures = 0
        #: Until when there are no calls; ``None`` while it is closed.
        self._open_until: float | None = None
        #: Calls under way that were let through to see whether the peer is well again.
        self._probes = 0
        #: When the latest of them began.
        self._probed_at = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether it has opened and not closed again."""
        return self._open_until is not None

    @property
    def is_untouched(self) -> bool:
        """Whether it is as if it were new."""
        return self._open_until is None and not self._failures

    def admits(self, now: float) -> bool:
        """Whether the peer gets a call now."""
        return self._open_until is None or (
            now >= self._open_until and (not self._probes or now >= self._next_probe)
        )

    def next_change(self, now: float) -> float:
        """Return when :meth:`admits` changes by itself; ``inf`` if it does not."""
        if self._open_until is None:
            return math.inf
        changes = (self._open_until, self._next_probe if self._probes else -math.inf)
        return min((change for change in changes if change > now), default=math.inf)

    @property
    def _next_probe(self) -> float:
        """When another call is let through although the last one that was has not ended: it may wait for hours, as calls
        do that wait for something to happen."""
        return self._probed_at + self._policy.open_time

    def begin(self, now: float) -> bool:
        """A call begins; tell whether it is a probe, which :meth:`end` has to be told."""
        is_probe = self._open_until is not None and now >= self._open_until
        if is_probe:
            self._probes += 1
            self._probed_at = now
        return is_probe

    def end(self, has_failed: bool | None, now: float, *, was_probe: bool) -> bool:
        """A call has ended.

        Args:
            has_failed: whether it has failed; ``None`` if that is not known, because its caller gave it up.
            now: the time, as :func:`trio.current_time` counts.
            was_probe: what :meth:`begin` returned.

        Returns:
            whether the circuit has opened or closed.
        """
        self._probes -= was_probe
        if has_failed is None:
            return False
        if not has_failed:
            self._failures = 0
            # Calls that began before it opened say nothing of how the peer is now.
            has_closed = was_probe and self._open_until is not None
            if has_closed:
                self._open_until = None
            return has_closed
        self._failures += 1
        # A probe that fails after another one has closed the circuit is a failure like others.
        opens = was_probe if self.is_open else self._failures >= self._policy.failures
        if opens:
            has_opened = self._open_until is None
            self._open_until = now + self._policy.open_time
            return has_opened
        return False
