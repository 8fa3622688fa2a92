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

#: The name of each command, at its number, and the defaults of its fields.
COMMANDS: Final[Sequence[tuple[str, Sequence[Any]]]] = (
    ("HELLO", (_REQUIRED, _REQUIRED, _REQUIRED, _REQUIRED, "", ["msgpack"], [], {}, [], None)),
    ("REFUSE", (_REQUIRED, "")),
    ("ANNOUNCE", (_REQUIRED,)),
    ("PING", (_REQUIRED, 0)),
    ("PONG", (_REQUIRED, 0)),
    ("GOAWAY", (_REQUIRED, _REQUIRED, "")),
    ("CREDIT", (_REQUIRED, _REQUIRED)),
    ("OPEN", (_REQUIRED, _REQUIRED, 0, None, 0, None, None, None, None, None)),
    ("DATA", (_REQUIRED, _REQUIRED, 0, 0)),
    ("END", (_REQUIRED,)),
    ("CLOSE", (_REQUIRED, 0, None, 0, "", None, None)),
    ("CANCEL", (_REQUIRED, "")),
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
    name, defaults = COMMANDS[number]
    fields = command[1 : len(defaults) + 1]
    missing = defaults[len(fields) :]
    if _REQUIRED in missing:
        raise MalformedError(f"{name} lacks fields: {command!r}")
    return [name, *fields, *missing]


def shown(command: Sequence[Any]) -> str:
    """Return a command as a report shows it, without trailing fields that have their defaults."""
    name, *fields = command
    defaults = COMMANDS[NUMBERS[name]][1]
    while fields and fields[-1] == defaults[len(fields) - 1]:
        fields.pop()
    return f"{name}({', '.join(_value(field) for field in fields)})"


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(value) if hasattr(value, '__len__') else ''})"
