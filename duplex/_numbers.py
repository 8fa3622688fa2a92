"""The one check of a number that somebody gave: that it is one, and within bounds; and what to say if it is not."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, Final

from duplex._errors import ConfigurationError

#: The longest duration in seconds that an option may be, some 31 years. More is a mistake, or infinity is meant.
MOST_SECONDS: Final = 10**9
#: The shortest duration that is not none at all: times on the wire, and of libzmq, are whole milliseconds.
LEAST_SECONDS: Final = 0.001
#: The highest whole number that an option may be.
HIGHEST: Final = 2**48


def check_seconds(
    name: str,
    value: Any,
    *,
    low: float = 0,
    high: float = MOST_SECONDS,
    forever: bool = False,
    hint: str = "",
) -> Any:
    """Return a duration if it is one.

    Args:
        name: of the option, for the message.
        value: what was given.
        low: the least that it may be, in seconds.
        high: the most that it may be, in seconds.
        forever: whether it may be ``math.inf``, too.
        hint: what to say besides.

    Raises:
        ConfigurationError: it is no number of seconds, or out of bounds; the message says what is right.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Whatever is compared with NaN is false, and so is no duration.
        if low <= value <= high or (forever and value == math.inf):
            return value
    elif isinstance(value, dt.timedelta):
        hint = "; write .total_seconds() behind it"
    raise ConfigurationError(
        f"{name} must be a number of seconds from {low:g} to {high:.12g}{', or math.inf' if forever else ''}, not "
        f"{_shown(value)}{hint}"
    )


def check_whole(name: str, value: Any, *, low: int, high: int = HIGHEST) -> Any:
    """Return a whole number if it is one and within bounds.

    Raises:
        ConfigurationError: it is not; the message says what is right.
    """
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigurationError(f"{name} must be a whole number from {low} to {high}, not {_shown(value)}")


def check_factor(name: str, value: Any, *, low: float, high: float) -> Any:
    """Return a number without a unit if it is one and within bounds.

    Raises:
        ConfigurationError: it is not; the message says what is right.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigurationError(f"{name} must be a number from {low:g} to {high:g}, not {_shown(value)}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits has no text, and other objects may raise what they like
        return (
            f"a very large {type(value).__name__}" if isinstance(value, int) else f"a {type(value).__name__}"
        )
    return text if len(text) <= 100 else f"{text[:97]}..."
