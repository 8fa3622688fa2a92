"""The form in which the arguments of a call travel, but for raw bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duplex._errors import DecodeError


def join_arguments(positional: Sequence[Any], keyword: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return ``(positional, keyword)``, or ``(positional,)`` without keyword arguments."""
    return (positional, keyword) if keyword else (positional,)


def split_arguments(value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the two halves of ``[positional, keyword]`` or ``[positional]``. Raises ``DecodeError``."""
    if type(value) is list and 1 <= len(value) <= 2:
        positional = value[0]
        keyword = value[1] if len(value) == 2 else {}
        if type(positional) is list and type(keyword) is dict and all(type(name) is str for name in keyword):
            return positional, keyword
    raise DecodeError(
        "arguments must be an array of an array and, if some have names, a map with text as keys"
    )
