"""Numbers that somebody gave."""

from __future__ import annotations

from typing import Final

#: Seconds that nothing here may take longer than.
A_DAY: Final = 86400.0


def check_seconds(name: str, value: object) -> float:
    """Return a time in seconds.

    Raises:
        ValueError: it is no number, not positive, or longer than a day.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= A_DAY:
        raise ValueError(
            f"{name} is a number of seconds, more than 0 and up to {A_DAY:g}, not {value!r:.100}"
        )
    return float(value)
