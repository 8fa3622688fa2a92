"""Who leads: the key of an election, and and how its holder knows that its term goes on."""

from __future__ import annotations

from duplex_services.store._model import Entry
from duplex_services.store._rules._commits import LEADERS
from duplex_services.store._rules._keys import check_key


def leader_key(name: str) -> str:
    """Return the key that holds who leads.

    Raises:
        ValueError: the name makes no key.
        TypeError: it is no text.
        TooLarge: it has too many bytes.
    """
    return check_key(LEADERS + check_key(name), own=True)


def still_leads(present: Entry | None, fence: int) -> bool:
    """Whether the term that began with a revision goes on."""
    return present is not None and present.modified == fence
