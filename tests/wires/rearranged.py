"""Messages of several commands made into several messages, and the reverse. To the protocol it is all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from duplex.transports import Buffer, Frames

#: Bytes of commands that are put into one message: as many as a peer puts there itself.
MOST_BYTES: Final = 1024 * 1024

_decode_batch: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_command: Final = msgspec.msgpack.Decoder(list[Any]).decode
_encode: Final = msgspec.msgpack.Encoder().encode

#: Where OPEN, DATA and CLOSE say how many attachments are theirs.
_ATTACHMENTS: Final = {7: 5, 8: 4, 10: 4}
_HELLO: Final = 0
#: Where HELLO has its limits, and how many commands a batch may have if they do not say.
_LIMITS: Final = 8
_MOST_COMMANDS: Final = 1024


def split(frames: Frames) -> list[list[Buffer]]:
    """Give every command a message of its own, with the attachments that are its. What is no batch of commands, and
    one whose attachments do not add up, stays as it is."""
    commands = _commands(frames[0])
    rest = list(frames[1:])
    messages: list[list[Buffer]] = []
    for command in commands or ():
        count = _attachments(_decode_command(command))
        taken, rest = rest[:count], rest[count:]
        if len(taken) < count:
            return [list(frames)]
        messages.append([_encode([command]), *taken])
    return [list(frames)] if rest or not messages else messages


def merge(messages: Sequence[Frames], most_commands: int) -> list[list[Buffer]]:
    """Put the commands of messages together, in order, into as few messages as may be. What is no batch of commands
    stays as it is.

    Args:
        messages: what is under way to one receiver.
        most_commands: how many the receiver takes in one.
    """
    merged: list[list[Buffer]] = []
    together: list[msgspec.Raw] = []
    attachments: list[Buffer] = []
    size = 0

    def seal() -> None:
        nonlocal together, attachments, size
        if together:
            merged.append([_encode(together), *attachments])
        together, attachments, size = [], [], 0

    for frames in messages:
        commands = _commands(frames[0])
        if not commands or sum(map(_attachments, map(_decode_command, commands))) != len(frames) - 1:
            seal()
            merged.append(list(frames))
            continue
        if len(together) + len(commands) > most_commands or size + len(frames[0]) > MOST_BYTES:
            seal()
        together += commands
        attachments += frames[1:]
        size += len(frames[0])
    seal()
    return merged


def most_commands(frames: Frames) -> int | None:
    """Return how many commands the sender of a ``HELLO`` takes in a message; ``None`` if the message has no ``HELLO``."""
    for raw in _commands(frames[0]) or ():
        command = _decode_command(raw)
        if command[0] == _HELLO:
            limits = command[_LIMITS] if len(command) > _LIMITS else {}
            return int(limits.get("max_commands", _MOST_COMMANDS))
    return None


def _commands(frame: Buffer) -> list[msgspec.Raw] | None:
    try:
        commands = _decode_batch(frame)
        if all(_is_command(_decode_command(command)) for command in commands):
            return commands
    except msgspec.MsgspecError:
        pass  # hostile: the receiver is to see it as it came
    return None


def _is_command(command: list[Any]) -> bool:
    return bool(command) and isinstance(command[0], int) and isinstance(_attachments(command), int)


def _attachments(command: list[Any]) -> int:
    place = _ATTACHMENTS.get(command[0])
    return command[place] if place is not None and len(command) > place else 0
