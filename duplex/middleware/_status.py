"""How a call has ended, in the words of its status."""

from __future__ import annotations

from typing import Any

import trio

import duplex


def status_of(call: Any, error: BaseException | None) -> str:
    """Return the name of the status that a call has ended with.

    Args:
        call: as its middleware sees it, on either side.
        error: what it has raised, if anything.
    """
    if error is None:
        return "OK"
    if isinstance(error, duplex.RPCError):
        return str(getattr(error.code, "name", error.code))
    if isinstance(error, trio.Cancelled):
        late = getattr(call, "cancelled_by", None) == "deadline"
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"
    return "INTERNAL"
