"""Which version of the Docker API to speak: the newest that both know."""

from __future__ import annotations

from typing import Final

#: What is asked for here has been the same from the first to the last of these.
OLDEST: Final = (1, 24)
NEWEST: Final = (1, 52)


def negotiate(oldest: str, newest: str) -> str:
    """Return the version to speak with an engine.

    Args:
        oldest: that the engine speaks; empty if it does not say.
        newest: that it speaks.

    Raises:
        ValueError: there is none, with both ranges.
    """
    try:
        last = _read(newest)
        first = _read(oldest) if oldest else (1, 0)
    except ValueError:
        raise ValueError(
            f"the engine says that it speaks API {oldest!r} to {newest!r}, which are no versions"
        ) from None
    chosen = min(last, NEWEST)
    if chosen < max(first, OLDEST):
        raise ValueError(
            f"the engine speaks API {oldest or '1.0'} to {newest}, and this registrator {_show(OLDEST)} to {_show(NEWEST)}: "
            "one of them is too old for the other"
        )
    return _show(chosen)


def _read(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _show(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
