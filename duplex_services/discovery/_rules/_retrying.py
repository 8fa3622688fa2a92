"""How long to wait before something is tried again, and what is told meanwhile."""

from __future__ import annotations

from typing import Final

import duplex

#: Seconds.
_FIRST: Final = 0.1
_LONGEST: Final = 2.0


def next_pause(pause: float) -> float:
    """Return the pause after one of so many seconds; 0 for none yet."""
    return min(_LONGEST, max(_FIRST, 2 * pause))


def refusal_of(error: duplex.RPCError) -> duplex.RPCError | None:
    """Return the error of a call if a server has refused it, or a link for it; ``None`` if no server was there, or none any more."""
    is_lost = isinstance(error, duplex.PeerLost) or (
        isinstance(error, duplex.Unavailable) and error.peer is None
    )
    return None if is_lost else error
