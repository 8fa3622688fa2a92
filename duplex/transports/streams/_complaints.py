"""What is said in the log of strangers, who could fill it."""

from __future__ import annotations

import logging
from typing import Final, final

logger = logging.getLogger("duplex")

#: Seconds for which nothing of the same kind is said again.
_QUIET: Final = 10.0


@final
class Complaints:
    """The log lines of one port: one of each kind in ten seconds, and how many there would have been."""

    def __init__(self) -> None:
        self._quiet_until: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, kind: str, text: str, now: float) -> None:
        """Say something, or count it.

        Args:
            kind: what it is about. There are few of them.
            text: what is to be said.
            now: the time.
        """
        if now < self._quiet_until.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._quiet_until[kind] = now + _QUIET
        unsaid = self._unsaid.pop(kind, 0)
        logger.warning(
            "%s%s", text, f" (and {unsaid} times before, since the last time this was said)" if unsaid else ""
        )
