"""Which arguments live: channels and functions, which belong to one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import trio

from duplex.engine.channels import FUNCTIONS

#: What is at an end, or moved on, once a call has used it.
CHANNELS: Final = (trio.abc.SendChannel, trio.abc.ReceiveChannel)
#: What can go with no call that has an idempotency key.
LIVE: Final = (*CHANNELS, *FUNCTIONS)
#: How deep it is looked for them. What is nested deeper, or holds itself, cannot travel in any case.
_DEPTH: Final = 100


def holds(kinds: tuple[type, ...], values: Iterable[Any], depth: int = _DEPTH) -> bool:
    """Whether any of some values is of these kinds, or a list or dict that has one in it."""
    for value in values:
        if isinstance(value, kinds):
            return True
        if depth and isinstance(value, (list, tuple, set, frozenset)) and holds(kinds, value, depth - 1):
            return True
        if depth and isinstance(value, dict) and holds(kinds, value.values(), depth - 1):
            return True
    return False
