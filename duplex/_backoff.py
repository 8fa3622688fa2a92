"""How long to wait before something is tried again: one rule for links, streams and calls."""

from __future__ import annotations

from typing import Final, Protocol

#: Growth is reckoned for so many failures in a row, or a float would overflow after a thousand.
_MOST: Final = 64


class Pauses(Protocol):
    """The bounds of the pauses, such as :class:`duplex.Reconnect`."""

    @property
    def initial(self) -> float:
        """Seconds before the second attempt."""

    @property
    def maximum(self) -> float:
        """Seconds that no pause exceeds."""

    @property
    def multiplier(self) -> float:
        """How many times longer each pause is than the one before."""

    @property
    def jitter(self) -> float:
        """By which part of it, at most, chance makes a pause longer or shorter."""


def pause_after(failures: int, pauses: Pauses, chance: float) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        failures: attempts that have failed in a row; at least 1.
        pauses: their bounds.
        chance: a number drawn from 0 to 1, so that many who failed at once do not come back at once.
    """
    pause = min(pauses.initial * pauses.multiplier ** min(failures - 1, _MOST), pauses.maximum)
    return min(pause * (1 + pauses.jitter * (2 * chance - 1)), pauses.maximum)
