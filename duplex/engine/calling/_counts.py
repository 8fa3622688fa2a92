"""What is counted of the calls that a peer makes."""

from __future__ import annotations

import dataclasses
from typing import final


@final
@dataclasses.dataclass(slots=True)
class CallCounts:
    """Attempts beyond the first ones of a call, since the peer was opened."""

    #: Those that were made because another one had failed.
    retries: int = 0
    #: Calls that failed and would have been made again, had not too many others failed.
    throttled: int = 0
    #: Those that were made because another one took long.
    hedges: int = 0
    #: How often a peer was given no calls of a service any more.
    ejections: int = 0
