"""Whether a history of one key is linearizable: whether each operation can have taken effect at one moment between its call
and its return, so that all of them together are what one store, which does one thing at a time, would have answered.

The search is that of Wing and Gong (1993), with the memory of Lowe (2017): a set of operations that were made, and the
state after them, is looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec


class Operation(msgspec.Struct, frozen=True):
    """One operation on one key, as its client saw it. Every value that is written is written once.

    Attributes:
        kind: ``get``; or ``set``, on condition that the key holds ``expected`` (``None``: that it is missing).
        called: when it was called, by a clock that all clients share.
        returned: when it returned; ``math.inf`` if it never told what became of it.
        outcome: ``ok``; ``conflict`` for a ``set`` whose condition did not hold; ``unknown`` for one that may have
            happened or may yet happen. What surely had no effect is left out of the history.
        value: what was got, or what is to be there; ``None`` for no such key, so a ``set`` of it deletes.
        expected: the condition of a ``set``.
        client: who, for messages.
    """

    kind: Literal["get", "set"]
    called: float
    returned: float
    outcome: Literal["ok", "conflict", "unknown"]
    value: str | None = None
    expected: str | None = None
    client: str = ""


def explain_history(history: Sequence[Operation], initial: str | None = None) -> str | None:
    """Say why a history cannot be that of a linearizable store.

    Args:
        history: operations on one key, in any order.
        initial: what the key held before; ``None``: it was not there.

    Returns:
        ``None`` if it can; else what could not be placed, for a human.
    """
    # What never returned may take effect at any later time, or never; a get of which nothing is known says nothing.
    operations = sorted(
        (one for one in history if one.kind == "set" or one.outcome == "ok"), key=lambda one: one.called
    )
    returned = [math.inf if one.outcome == "unknown" else one.returned for one in operations]
    needed = sum(1 << index for index, one in enumerate(operations) if one.outcome != "unknown")
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, initial)]
    best = 0
    while stack:
        made, state = stack.pop()
        if made & needed == needed:
            return None
        if (made, state) in seen:
            continue
        seen.add((made, state))
        if (made & needed).bit_count() > (best & needed).bit_count():
            best = made
        # Whatever is not made yet and has returned bounds what can come next.
        first_return = min(
            (returned[index] for index in range(len(operations)) if not made >> index & 1), default=math.inf
        )
        for index, operation in enumerate(operations):
            if operation.called > first_return:
                break
            if made >> index & 1:
                continue
            after, fits = _effect(operation, state)
            if fits:
                stack.append((made | 1 << index, after))
    left = [one for index, one in enumerate(operations) if not best >> index & 1 and one.outcome != "unknown"]
    shown = "\n".join(f"  {_described(one)}" for one in left[:5])
    return f"{best.bit_count()} of {len(operations)} operations fit together; then none of these can come next:\n{shown}"


def _effect(operation: Operation, state: str | None) -> tuple[str | None, bool]:
    """Return the state after an operation, and whether its answer fits to the state before."""
    if operation.kind == "get":
        return state, operation.value == state
    holds = operation.expected == state
    if operation.outcome == "conflict":
        return state, not holds
    # An unknown one that finds its condition broken changes nothing, which is as if it had never come.
    return operation.value, holds


def _described(one: Operation) -> str:
    what = (
        f"get -> {one.value!r}"
        if one.kind == "get"
        else f"set {one.expected!r} to {one.value!r}: {one.outcome}"
    )
    return f"{one.called:.6f} .. {one.returned:.6f}  {one.client}  {what}"
