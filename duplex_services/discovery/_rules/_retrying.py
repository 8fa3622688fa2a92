"""How long to wait before something is tried again."""

from __future__ import annotations

from typing import Final

#: Seconds.
_FIRST: Final = 0.1
_LONGEST: Final = 2.0


def next_pause(pause: float) -> float:
    """Return the pause after one of so many seconds; 0 for none yet."""
    return min(_LONGEST, max(_FIRST, 2 * pause))
