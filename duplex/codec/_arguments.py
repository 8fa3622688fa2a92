"""The form in which the arguments of a call travel."""

from __future__ import annotations

from typing import Any

from duplex._errors import DecodeError


def split_arguments(value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the two halves of ``[positional, keyword]`` or ``[positional]``. Raises ``DecodeError``."""
    if type(value) is list and 1 <= len(value) <= 2 and type(value[0]) is list:
        positional = value[0]
        keyword = value[1] if len(value) == 2 else {}
        if type(keyword) is dict and all(type(name) is str for name in keyword):
            return positional, keyword
    raise DecodeError("arguments must be [positional, keyword]: an array with an array and perhaps a map")
