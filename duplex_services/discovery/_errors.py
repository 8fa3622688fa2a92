"""How a change of the directory may fail.

::

    DirectoryError (duplex.DuplexError)
    ├─ BadRequest       what was given makes no sense; nothing changed
    ├─ NotThere         there is no such thing; nothing changed
    ├─ AlreadyThere     there is one already; nothing changed
    ├─ NotAllowed       not as things are: another index, a registration that is over, a leader that is not elected by hand
    ├─ Full             there is as much as the directory is to hold; nothing changed
    ├─ StoreAway        the store does not answer: nothing changed, or, as the message says, it may have
    └─ Superseded       another server of this name has begun
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import duplex

_T = TypeVar("_T")


class DirectoryError(duplex.DuplexError):
    """The root of what a directory raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(DirectoryError):
    """What was given makes no sense; nothing changed."""


class NotThere(DirectoryError):
    """There is no such service or instance; nothing changed."""


class AlreadyThere(DirectoryError):
    """There is one already; nothing changed."""


class NotAllowed(DirectoryError):
    """Not as things are; nothing changed."""


class Full(DirectoryError):
    """There is as much as the directory is to hold; nothing changed."""


class StoreAway(DirectoryError):
    """The store does not answer, or does not take it."""


class Superseded(DirectoryError):
    """Another server of discovery has begun under this name."""


def check(checker: Callable[[Any], _T], value: Any) -> _T:
    """Check a value. Returns what the checker does.

    Raises:
        BadRequest: it makes no sense.
    """
    try:
        return checker(value)
    except ValueError as error:
        raise BadRequest(str(error)) from None
