"""The form in which the arguments of a call travel: ``[positional, keyword]``, or ``[positional]``."""

from __future__ import annotations

from typing import Any

from duplex._errors import DecodeError


def split_arguments(value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments. Raises ``DecodeError``."""
    if type(value) is list and value and type(value[0]) is list:
        if len(value) == 1:
            return value[0], {}
        if len(value) == 2 and type(value[1]) is dict and all(type(name) is str for name in value[1]):
            return value[0], value[1]
    raise DecodeError(
        "arguments must be an array of an array and, if some have names, a map with text as keys"
    )
