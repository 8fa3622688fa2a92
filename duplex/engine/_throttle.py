"""Warnings that another peer can cause are counted when they repeat: what it sends must not fill a log."""

from __future__ import annotations

from typing import Final, final

#: Seconds in which a kind of warning is logged once.
PAUSE: Final = 10.0


@final
class Throttle:
    """How often each kind of warning may be logged, for one link or whatever else it is kept for.

    Kinds are few and chosen by this side: a name that the other side chooses is none.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        #: By kind: when it was logged last, and how often it was not since.
        self._counts: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, now: float) -> str | None:
        """Note that there is something to warn of.

        Args:
            kind: what the warning is about.
            now: the present time in seconds.

        Returns:
            What to add to the text that is logged now: how many were not; or ``None`` if this one is only counted.
        """
        known = self._counts.get(kind)
        if known is not None and now < known[0] + PAUSE:
            self._counts[kind] = known[0], known[1] + 1
            return None
        self._counts[kind] = now, 0
        return and_more(known[1]) if known is not None else ""

    def left(self) -> list[tuple[str, int]]:
        """Return the kinds of which some were only counted, with their numbers, and forget these."""
        left = [(kind, count) for kind, (_, count) in self._counts.items() if count]
        for kind, _ in left:
            self._counts[kind] = self._counts[kind][0], 0
        return left


def and_more(count: int) -> str:
    """Return how many more there were, for the end of a text; nothing if there were none."""
    return f" (and {count} more like it since the last of these)" if count else ""
