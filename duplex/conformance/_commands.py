"""The commands of DMTP as the tool knows them: numbers, fields, defaults.

Written down once more, from ``spec/dmtp.md``, section 3, and not taken from ``duplex.protocol``: what checks
an implementation must not share its mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

#: The parity of a link's channels is the opener's; a link has one of each.
CONNECTING: Final = "connecting"
BINDING: Final = "binding"

_REQUIRED: Final = object()
_TYPES: Final[dict[str, type]] = {"text": str, "bytes": bytes, "map": dict}

#: The name of each command, at its number, and its fields: what they are, and their defaults.
COMMANDS: Final[Sequence[tuple[str, Sequence[tuple[str, Any]]]]] = (
    (
        "HELLO",
        (
            ("text", _REQUIRED),
            ("uint", _REQUIRED),
            ("uint", _REQUIRED),
            ("text", _REQUIRED),
            ("text", ""),
            ("array of text", ["msgpack"]),
            ("array of text", []),
            ("map", {}),
            ("array of maps", []),
            ("bytes or nil", None),
        ),
    ),
    ("REFUSE", (("text", _REQUIRED), ("text", ""))),
    ("ANNOUNCE", (("array of maps", _REQUIRED),)),
    ("PING", (("uint", _REQUIRED), ("uint", 0))),
    ("PONG", (("uint", _REQUIRED), ("uint", 0))),
    ("GOAWAY", (("uint", _REQUIRED), ("text", _REQUIRED), ("text", ""))),
    ("CREDIT", (("uint", _REQUIRED), ("uint", _REQUIRED))),
    (
        "OPEN",
        (
            ("uint", _REQUIRED),
            ("text, uint or nil", _REQUIRED),
            ("uint", 0),
            ("bytes or nil", None),
            ("uint", 0),
            ("uint or nil", None),
            ("map or nil", None),
            ("uint or nil", None),
            ("uint or nil", None),
            ("text or nil", None),
        ),
    ),
    ("DATA", (("uint", _REQUIRED), ("bytes", _REQUIRED), ("uint", 0), ("uint", 0))),
    ("END", (("uint", _REQUIRED),)),
    (
        "CLOSE",
        (
            ("uint", _REQUIRED),
            ("uint", 0),
            ("bytes or nil", None),
            ("uint", 0),
            ("text", ""),
            ("bytes or nil", None),
            ("map or nil", None),
        ),
    ),
    ("CANCEL", (("uint", _REQUIRED), ("text", ""))),
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
    """Whether a value is one of the types in words such as ``text, uint or nil``."""
    if kind.startswith("array of "):
        inner: type = str if kind.endswith("text") else dict
        return isinstance(value, list) and all(isinstance(item, inner) for item in value)
    if value is None:
        return kind.endswith("nil")
    if isinstance(value, int) and not isinstance(value, bool):
        return "uint" in kind and value >= 0
    return any(isinstance(value, type_) and word in kind for word, type_ in _TYPES.items())


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
