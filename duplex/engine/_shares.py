"""How what is limited for all links together is shared: handlers, threads, buffered bytes, links of one address.

It is not for the first who comes. Each may hold as much as :data:`GREED` times what is still free, so all who want more end
up with about as much, one who is alone with nearly all, and something is left for who comes next. (Switches share their
buffers so: "dynamic thresholds", Choudhury and Hahne 1998.)
"""

from __future__ import annotations

from typing import Final

#: How many times what is free one link may hold.
GREED: Final = 8
#: Seconds after which a refused call may be tried again. Handlers end at times that nobody knows, so this only
#: keeps callers from asking again at once.
PUSH_BACK: Final = 0.1


def may_hold_more(held: int, used: int, most: int) -> bool:
    """Whether somebody who holds so much of something may have one more, of which so much is used by all, at most.

    Of eight or fewer, one may have them all.
    """
    return held < GREED * (most - used)
