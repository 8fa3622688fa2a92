"""The commands of DMTP as the tool knows them: numbers, fields, defaults.

Written down once more, from ``spec/dmtp.md``, section 3, and not taken from ``duplex.protocol``: what checks
an implementation must not share its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

#: The sides of a link.
CONNECTING: Final = "connecting"
BINDING: Final = "binding"

_REQUIRED: Final = object()

#: The greatest integer of the protocol, and the most characters of a name, of a text and of a human's words.
_MAX_INTEGER: Final = 2**53 - 1
_MAX_NAME: Final = 255
_MAX_TEXT: Final = 8192
_MAX_CREDENTIALS: Final = 8192
_MAX_ENTRIES: Final = 256

#: The name of each command, at its number, and its fields: what they are, and their defaults.
COMMANDS: Final[Sequence[tuple[str, Sequence[tuple[str, Any]]]]] = (
    (
        "HELLO",
        (
            ("name", _REQUIRED),
            ("uint", _REQUIRED),
            ("uint", _REQUIRED),
            ("name", _REQUIRED),
            ("label", ""),
            ("1 to 32 names", ["msgpack"]),
            ("0 to 64 names", []),
            ("limits", {}),
            ("services", []),
            ("credentials or nil", None),
        ),
    ),
    ("REFUSE", (("name", _REQUIRED), ("text", ""))),
    ("ANNOUNCE", (("services", _REQUIRED),)),
    ("PING", (("uint", _REQUIRED), ("uint", 0))),
    ("PONG", (("uint", _REQUIRED), ("uint", 0))),
    ("GOAWAY", (("uint", _REQUIRED), ("name", _REQUIRED), ("text", ""))),
    ("CREDIT", (("uint", _REQUIRED), ("amount", _REQUIRED))),
    (
        "OPEN",
        (
            ("channel", _REQUIRED),
            ("name, uint or nil", _REQUIRED),
            ("uint", 0),
            ("bytes or nil", None),
            ("uint", 0),
            ("uint or nil", None),
            ("metadata or nil", None),
            ("uint or nil", None),
            ("channel or nil", None),
            ("name or nil", None),
        ),
    ),
    ("DATA", (("channel", _REQUIRED), ("bytes", _REQUIRED), ("uint", 0), ("uint", 0))),
    ("END", (("channel", _REQUIRED),)),
    (
        "CLOSE",
        (
            ("channel", _REQUIRED),
            ("uint", 0),
            ("bytes or nil", None),
            ("uint", 0),
            ("text", ""),
            ("bytes or nil", None),
            ("metadata or nil", None),
        ),
    ),
    ("CANCEL", (("channel", _REQUIRED), ("text", ""))),
)

NUMBERS: Final = {name: number for number, (name, _) in enumerate(COMMANDS)}

#: The defaults of the limits in ``HELLO`` (section 9).
LIMITS: Final = {
    "max_message": 16777216,
    "max_attachments": 64,
    "max_commands": 1024,
    "max_metadata": 8192,
    "max_channels": 4096,
    "channel_window": 1048576,
    "link_window": 16777216,
}

#: The least that each of them may be.
LEAST: Final = {
    "max_message": 1024,
    "max_attachments": 0,
    "max_commands": 1,
    "max_metadata": 0,
    "max_channels": 1,
    "channel_window": 1,
    "link_window": 1,
}

MAX_SERVICES: Final = 1024

#: What a message costs beside its bytes (section 6).
OVERHEAD: Final = 64
NOTIFY_OVERHEAD: Final = 4096

#: Bits of ``flags`` of ``OPEN``.
NOTIFY: Final = 4


class MalformedError(Exception):
    """The implementation sent something that is no command."""


def read(command: Any) -> list[Any]:
    """Return a command with its name first and all its fields, defaults included; later fields are cut off.

    Raises:
        MalformedError: it is not a command.
    """
    if not isinstance(command, list) or not command:
        raise MalformedError(f"{command!r} is no command")
    number = command[0]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(COMMANDS):
        raise MalformedError(f"there is no command {number!r}")
    name, fields = COMMANDS[number]
    found: list[Any] = [name]
    for place, (kind, default) in enumerate(fields, 1):
        if place < len(command):
            value = command[place]
            if not _is(kind, value):
                raise MalformedError(f"{name} with {value!r} where {kind} belongs: {command!r}")
        elif default is _REQUIRED:
            raise MalformedError(f"{name} lacks fields: {command!r}")
        else:
            value = default
        found.append(value)
    return found


def _is(kind: str, value: Any) -> bool:
    """Whether a value is of one of the types in words such as ``name, uint or nil``."""
    return any(_KINDS[word](value) for word in re.split(r", | or ", kind))


def _is_integer(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= _MAX_INTEGER


def _is_text(value: Any, shortest: int, longest: int) -> bool:
    return isinstance(value, str) and shortest <= len(value) <= longest


def _is_name(value: Any, shortest: int = 1) -> bool:
    # A sender counts the bytes too.
    return _is_text(value, shortest, _MAX_NAME) and len(value.encode()) <= _MAX_NAME


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes)


def _are_names(value: Any, fewest: int, most: int) -> bool:
    return isinstance(value, list) and fewest <= len(value) <= most and all(map(_is_name, value))


def _are_services(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_SERVICES
        and all(
            isinstance(item, dict) and _is_name(item.get("name")) and _is_name(item.get("version", ""), 0)
            for item in value
        )
    )


def _are_limits(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_integer(value[name], least) for name, least in LEAST.items() if name in value
    )


def _is_metadata(value: Any) -> bool:
    # What keys and values may be is another rule.
    return (
        isinstance(value, dict) and len(value) <= _MAX_ENTRIES and all(isinstance(key, str) for key in value)
    )


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "uint": lambda value: _is_integer(value, 0),
    "channel": lambda value: _is_integer(value, 1),
    "amount": lambda value: _is_integer(value, 1),
    "name": _is_name,
    "label": lambda value: _is_name(value, 0),
    "text": lambda value: _is_text(value, 0, _MAX_TEXT),
    "bytes": _is_bytes,
    "credentials": lambda value: _is_bytes(value) and len(value) <= _MAX_CREDENTIALS,
    "metadata": _is_metadata,
    "nil": lambda value: value is None,
    "limits": _are_limits,
    "services": _are_services,
    "1 to 32 names": lambda value: _are_names(value, 1, 32),
    "0 to 64 names": lambda value: _are_names(value, 0, 64),
}


def shown(command: Sequence[Any]) -> str:
    """Return a command as a report shows it, without trailing fields that have their defaults."""
    name, *fields = command
    defaults = [default for _, default in COMMANDS[NUMBERS[name]][1]]
    while fields and fields[-1] == defaults[len(fields) - 1]:
        fields.pop()
    return f"{name}({', '.join(_value(field) for field in fields)})"


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(value) if hasattr(value, '__len__') else ''})"
