"""Commands on their way out: many in one message, but never more than the other side takes.

A batch is sealed before it would hold more than :data:`BATCH_BYTES`, or more commands than the other side
takes. So frame 0 is larger than :data:`BATCH_BYTES` only if a single command is (and a ping that asks for proof of it follows),
and that is bounded by the limits of its message and its metadata; :func:`max_frame` is the sum of it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, final

import msgspec

from duplex.protocol._commands import LimitsInfo, RawCommand
from duplex.protocol._flow import MESSAGE_OVERHEAD, LinkSendWindow, SendWindow

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
class ItemRun:
    """Items of one stream on their way into the batch, one after the other: what is to be asked and done for each
    of them is done once, when the run begins and when it is settled. It is settled before anything else is queued,
    received or transmitted, and before anybody asks for credit, so that nobody sees the difference.

    Args:
        channel: the stream's.
        longest: bytes that the other side takes in one message.
        room: bytes of credit.
        windows: whose credit that is.
    """

    __slots__ = ("_credit", "_paid", "_windows", "channel", "longest", "payloads", "room")

    def __init__(
        self, channel: int, longest: int, room: int, windows: Sequence[SendWindow | LinkSendWindow]
    ) -> None:
        self.channel = channel
        self.longest = longest
        #: The items, encoded.
        self.payloads: list[bytes] = []
        #: Bytes of credit that are left.
        self.room = room
        self._credit = room
        self._paid = 0
        self._windows = windows

    @property
    def cost(self) -> int:
        """Bytes of credit that all items cost which it took."""
        return self._paid + self._credit - self.room

    def add(self, payload: bytes) -> bool:
        """Send an item without attachments, if nothing speaks against it, and return whether it was sent. If not,
        nothing has changed. A run that is settled takes nothing more."""
        size = len(payload)
        if self.room <= 0 or size > self.longest:
            return False
        self.room -= size + MESSAGE_OVERHEAD
        self.payloads.append(payload)
        return True

    def settle(self) -> tuple[list[bytes], int]:
        """Take no more items, pay for those that were taken, and return them and their cost."""
        payloads, self.payloads = self.payloads, []
        self._paid = cost = self._credit - self.room
        self._credit = self.room = 0
        for window in self._windows:
            window.balance -= cost
        return payloads, cost


@final
class Outbox:
    """The batch that is being filled, and those that wait to be transmitted."""

    __slots__ = ("_frames", "_sealed", "commands", "max_commands", "run", "size", "total")

    def __init__(self, max_commands: int) -> None:
        #: Items that come after those commands, and are not among them yet.
        self.run: ItemRun | None = None
        #: The present batch.
        self.commands: list[RawCommand] = []
        #: How many commands the other side takes in a batch.
        self.max_commands = max_commands
        #: Bytes of all batches that were sealed or taken, generously.
        self.total = 0
        #: Bytes of the present batch, generously.
        self.size = 0
        self._frames: list[Buffer] = []
        self._sealed: list[list[Buffer]] = []

    def __bool__(self) -> bool:
        return bool(self.commands or self._sealed or (self.run is not None and self.run.payloads))

    @property
    def queued(self) -> int:
        """Bytes of all that was queued since the beginning, generously."""
        return self.total + self.size

    def push(self, command: RawCommand, size: int, attachments: Sequence[Buffer] = ()) -> None:
        """Queue a command of at most ``size`` bytes, attachments included."""
        if self.run is not None:
            self.settle()
        commands = self.commands
        if commands and (self.size + size > BATCH_BYTES or len(commands) >= self.max_commands):
            self._seal()
            commands = self.commands
        commands.append(command)
        self.size += size
        if attachments:
            self._frames += [_flat(buffer) for buffer in attachments]

    def push_behind(self, command: RawCommand) -> None:
        """Queue a command of at most :data:`COMMAND_BYTES` in the present batch, however large that is: what other
        sides take has room for it (:data:`FRAME_SLACK`)."""
        if len(self.commands) >= self.max_commands:
            self._seal()
        self.commands.append(command)
        self.size += COMMAND_BYTES

    def begin(self, run: ItemRun) -> None:
        """Queue the items of a run from now on, until anything else is to be done."""
        self.settle()
        self.run = run

    def settle(self) -> None:
        """Queue and pay for the items of the present run, if there is one, and end it."""
        run = self.run
        if run is None:
            return
        self.run = None
        payloads, cost = run.settle()
        size = self.size + cost
        channel = run.channel
        commands = self.commands
        if size <= BATCH_BYTES and len(commands) + len(payloads) <= self.max_commands:
            commands += [(8, channel, payload) for payload in payloads]
            self.size = size
        else:
            for payload in payloads:
                self.push((8, channel, payload), len(payload) + MESSAGE_OVERHEAD)

    def take(self) -> list[list[Buffer]]:
        """Return all messages, in order, and forget them. What is left of a run has to be settled before."""
        if self._sealed or self._frames or not self.commands:
            if self.commands:
                self._seal()
            sealed, self._sealed = self._sealed, []
            return sealed
        # The usual batch, without a call.
        commands, self.commands = self.commands, []
        self.total += self.size
        self.size = 0
        return [[encode(commands)]]

    def _seal(self) -> None:
        frames: list[Buffer] = [encode(self.commands)]
        if self._frames:
            frames += self._frames
            self._frames = []
        self._sealed.append(frames)
        self.commands = []
        self.total += self.size
        self.size = 0


def _flat(buffer: Any) -> Buffer:
    """Return a buffer whose length is its number of bytes, whatever its items are."""
    if isinstance(buffer, (bytes, bytearray)):
        return buffer
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else b""
