"""Commands on their way out: many in one message, but never more than the other side takes.

A batch is sealed before it would hold more than :data:`BATCH_BYTES`, or more commands than the other side
takes. So frame 0 is larger than :data:`BATCH_BYTES` only if a single command is, and that is bounded by the
limits of its message and its metadata; :func:`max_frame` is the sum of it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, final

import msgspec

from duplex.protocol._commands import LimitsInfo, RawCommand

Buffer: TypeAlias = bytes | bytearray | memoryview

#: A batch is sealed when it reaches this many bytes, so that no frame grows without need.
BATCH_BYTES: Final = 1024 * 1024
#: Bytes that frame 0 may have beyond the largest message and its metadata: a whole batch of small commands.
FRAME_SLACK: Final = BATCH_BYTES
#: No command has more bytes than this beside its payload, names, texts, metadata and details.
COMMAND_BYTES: Final = 64


def _plain(value: Any) -> Any:
    """Return a value of a class derived from a plain one as that; msgspec takes only the plain ones."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a command")


encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def max_frame(limits: LimitsInfo) -> int:
    """Return the bytes of the largest frame that a peer with these limits takes."""
    return limits.max_message + limits.max_metadata + FRAME_SLACK


@final
class Outbox:
    """The batch that is being filled, and those that wait to be transmitted."""

    __slots__ = ("_frames", "_sealed", "_size", "commands", "max_commands")

    def __init__(self, max_commands: int) -> None:
        #: The present batch.
        self.commands: list[RawCommand] = []
        #: How many commands the other side takes in a batch.
        self.max_commands = max_commands
        self._frames: list[Buffer] = []
        self._size = 0
        self._sealed: list[list[Buffer]] = []

    def __bool__(self) -> bool:
        return bool(self.commands or self._sealed)

    def push(self, command: RawCommand, size: int, attachments: Sequence[Buffer] = ()) -> None:
        """Queue a command of at most ``size`` bytes, attachments included."""
        commands = self.commands
        if commands and (self._size + size > BATCH_BYTES or len(commands) >= self.max_commands):
            self._seal()
            commands = self.commands
        commands.append(command)
        self._size += size
        if attachments:
            self._frames += [_flat(buffer) for buffer in attachments]

    def take(self) -> list[list[Buffer]]:
        """Return all messages, in order, and forget them."""
        if self._sealed or self._frames or not self.commands:
            if self.commands:
                self._seal()
            sealed, self._sealed = self._sealed, []
            return sealed
        # The usual batch, without a call.
        commands, self.commands = self.commands, []
        self._size = 0
        return [[encode(commands)]]

    def _seal(self) -> None:
        frames: list[Buffer] = [encode(self.commands)]
        if self._frames:
            frames += self._frames
            self._frames = []
        self._sealed.append(frames)
        self.commands = []
        self._size = 0


def _flat(buffer: Any) -> Buffer:
    """Return a buffer whose length is its number of bytes, whatever its items are."""
    if isinstance(buffer, (bytes, bytearray)):
        return buffer
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else b""
