"""Credit that goes back to the other side, in bundles.

A stream gives credit back when its inbox has run empty or its turn ends, rather than for every item, so a few hundred items
cost one command. What a thousand streams have taken and not given back would add up, and the link's own window be used up
by what nobody holds: so all of them give back as soon as they owe a quarter of a window together.

A run of small items is taken as a whole, with its first one, and its credit goes back a little early: by less than the
sender may exceed it by, if a run is no more than a sixteenth of that.
"""

from __future__ import annotations

from typing import Protocol, final

from duplex._config import Limits


class Owes(Protocol):
    """What owes the other side credit for what was taken."""

    def give_back(self) -> None:
        """Give it back."""


@final
class CreditReturns:
    """What is owed on one link.

    Args:
        limits: this side's.

    Attributes:
        pending: those who owe credit (an ordered set).
        owed: how many bytes that is together.
        most_owed: how many it may be.
        longest_run: bytes of items that may be taken as a whole.
    """

    __slots__ = ("longest_run", "most_owed", "owed", "pending")

    def __init__(self, limits: Limits) -> None:
        self.pending: dict[Owes, None] = {}
        self.owed = 0
        self.most_owed = min(limits.channel_window, limits.link_window) // 4
        self.longest_run = self.most_owed // 16

    def give_all_back(self) -> None:
        """Let all give back what they owe."""
        for debtor in list(self.pending):
            debtor.give_back()
