"""Does a command that came match a pattern of a scenario? The patterns are listed in ``spec/scenarios/README.md``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from duplex.conformance._values import MARKERS, ScenarioError, Values, plain, unpack

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "bytes": lambda value: isinstance(value, bytes),
    "uint": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "map": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "nil": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
}


class Matcher:
    """Compares values with patterns, and keeps what they capture once the whole has matched.

    Args:
        values: builds what is compared literally, and takes the captures.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._attachments: list[bytes] = []
        self._captured: dict[str, Any] = {}

    def matches(self, pattern: Sequence[Any], command: Sequence[Any], attachments: list[bytes]) -> bool:
        """Whether a command fits; fields that the pattern does not have may be anything."""
        self._attachments = attachments
        self._captured = {}
        fits = len(pattern) <= len(command) and all(
            self._fits(wanted, came) for wanted, came in zip(pattern, command, strict=False)
        )
        if fits:
            self._values.names.update(self._captured)
        return fits

    def _fits(self, pattern: Any, value: Any) -> bool:
        if pattern == "*":
            return True
        if isinstance(pattern, dict):
            if "capture" in pattern:
                if not self._fits(pattern.get("is", "*"), value):
                    return False
                self._captured[pattern["capture"]] = value
                return True
            if "from" in pattern or "to" in pattern:
                return self._in_range(pattern, value)
            if len(pattern) == 1:
                [(marker, argument)] = pattern.items()
                if marker in _PATTERNS:
                    return _PATTERNS[marker](self, argument, value)
                if marker in MARKERS:
                    return bool(self._values.build(pattern) == value)
            return (
                isinstance(value, dict)
                and pattern.keys() == value.keys()
                and all(self._fits(wanted, value[key]) for key, wanted in pattern.items())
            )
        if isinstance(pattern, list):
            return (
                isinstance(value, list)
                and len(pattern) == len(value)
                and all(self._fits(wanted, came) for wanted, came in zip(pattern, value, strict=True))
            )
        wanted = self._values.build(pattern)
        return type(wanted) is type(value) and bool(wanted == value)

    def _in_range(self, pattern: Mapping[str, Any], value: Any) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        low, high = pattern.get("from"), pattern.get("to")
        if "parity_of" in pattern and (value - self._values.number(pattern["parity_of"])) % 2:
            return False
        return (low is None or self._values.number(low) <= value) and (
            high is None or value <= self._values.number(high)
        )

    def _msgpack(self, pattern: Any, value: Any) -> bool:
        if not isinstance(value, bytes):
            return False
        try:
            decoded = plain(unpack(value), self._attachments)
        except ValueError:
            return False
        return self._fits(pattern, decoded)

    def _json(self, pattern: Any, value: Any) -> bool:
        try:
            return isinstance(value, bytes) and self._fits(pattern, json.loads(value))
        except ValueError:
            return False

    def _with(self, pattern: Mapping[str, Any], value: Any) -> bool:
        return isinstance(value, dict) and all(
            key in value and self._fits(wanted, value[key]) for key, wanted in pattern.items()
        )

    def _each(self, pattern: Any, value: Any) -> bool:
        return isinstance(value, list) and all(self._fits(pattern, item) for item in value)

    def _includes(self, pattern: Any, value: Any) -> bool:
        return isinstance(value, list) and any(self._fits(pattern, item) for item in value)

    def _type(self, pattern: str, value: Any) -> bool:
        if pattern not in _TYPES:
            raise ScenarioError(f"there is no type {pattern!r}")
        return _TYPES[pattern](value)

    def _contains(self, pattern: Any, value: Any) -> bool:
        return isinstance(value, str) and self._values.build(pattern) in value

    def _any_of(self, pattern: Sequence[Any], value: Any) -> bool:
        return any(self._fits(wanted, value) for wanted in pattern)

    def _not(self, pattern: Any, value: Any) -> bool:
        return not self._fits(pattern, value)

    def _size(self, pattern: Any, value: Any) -> bool:
        return isinstance(value, (bytes, str, list, dict)) and len(value) == self._values.number(pattern)


_PATTERNS: Final[Mapping[str, Callable[[Matcher, Any, Any], bool]]] = {
    "msgpack": Matcher._msgpack,
    "json": Matcher._json,
    "with": Matcher._with,
    "each": Matcher._each,
    "includes": Matcher._includes,
    "type": Matcher._type,
    "contains": Matcher._contains,
    "any_of": Matcher._any_of,
    "not": Matcher._not,
    "size": Matcher._size,
}
