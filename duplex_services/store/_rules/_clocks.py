"""When to beat for a lease, when to hold it for lost, and when a watch has been quiet for too long."""

from __future__ import annotations

from typing import Final

import msgspec

#: Seconds before a beat that failed is tried again.
_RETRY: Final = 0.2


class LeaseClock(msgspec.Struct, frozen=True):
    """What the holder of a lease knows of its time.

    The server counts from when a beat reached it, the holder from when it *sent* it: so the holder knows first.

    Attributes:
        ttl: seconds, as the server counts them.
        sent: when the last beat that was confirmed was sent.
        failed: when the last attempt since then failed; ``None`` if none did.
    """

    ttl: float
    sent: float
    failed: float | None = None

    @property
    def lost_at(self) -> float:
        """From when on the server may have given the lease up."""
        return self.sent + self.ttl

    @property
    def beat_at(self) -> float:
        """When to send the next beat."""
        due = self.sent + self.ttl / 3
        return due if self.failed is None else max(due, self.failed + min(_RETRY, self.ttl / 10))

    def patience(self, now: float) -> float:
        """Return how long to wait for a beat's answer, in seconds: short, as another endpoint may answer."""
        return max(0.0, min(self.ttl / 6, self.lost_at - now))

    def confirmed(self, sent: float) -> LeaseClock:
        """Return the clock after a beat, sent at that time, was answered."""
        return LeaseClock(self.ttl, max(sent, self.sent))

    def missed(self, now: float) -> LeaseClock:
        """Return the clock after a beat failed."""
        return LeaseClock(self.ttl, self.sent, now)


class WatchClock(msgspec.Struct, frozen=True):
    """How certain a watch is.

    Attributes:
        verify_every: seconds that the store may have been asked last before the watch is stale.
        answer_within: seconds that asking may take.
        confirmed: when the store was asked, the last time that it had nothing newer; ``None`` if it never was.
        opened: when this watch began.
    """

    verify_every: float
    answer_within: float
    opened: float
    confirmed: float | None = None

    @property
    def since(self) -> float:
        """Since when it is not known whether something changed."""
        return self.opened if self.confirmed is None else self.confirmed

    @property
    def stale_at(self) -> float:
        """When that will have been too long."""
        return self.since + self.verify_every

    @property
    def ask_at(self) -> float:
        """When to ask, so that the answer comes in time."""
        if self.confirmed is None:
            return self.opened
        return self.confirmed + max(self.verify_every - self.answer_within, self.verify_every / 2)

    def is_stale(self, now: float) -> bool:
        """Whether too much time has passed."""
        return now >= self.stale_at


def next_pause(pause: float, *, first: float, longest: float) -> float:
    """Return the pause after one of ``pause`` seconds (0 for none yet): twice as long, within bounds."""
    return min(longest, max(first, pause * 2))
