"""What a fuzzer's input means, and how to change one so that it still means something.

An input is a byte that says which end receives and in what state, and then messages. A message is a byte, a
count of frames (its two lowest bits) and what the application does before it comes (the others), and that many
frames, each with a 16-bit length. Any bytes are an input: what is cut off is empty.

The mutator takes an input apart down to the fields of its commands, changes a few of them, and puts it
together again. Bytes changed at random are nearly always refused by the decoder; these reach what is behind.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack

#: Frames longer than this do not fit an input.
LONGEST: Final = 0xFFFF
HELLO: Final = [0, "DMTP", 1, 1, "fuzz", "", ["msgpack"], [], {}, [{"name": "soak"}], None]
SMALL_LIMITS: Final = {
    "max_message": 1024,
    "max_attachments": 2,
    "max_commands": 8,
    "max_metadata": 100,
    "max_channels": 3,
    "channel_window": 200,
    "link_window": 2000,
}
#: Numbers at which something may change.
EDGES: Final = (
    0,
    1,
    2,
    3,
    63,
    64,
    100,
    200,
    255,
    256,
    1024,
    4096,
    65535,
    2**31,
    2**53 - 1,
    2**53,
    2**64 - 1,
    -1,
)
TARGETS: Final = (
    "s.m",
    "soak.echo",
    "soak.note",
    "soak.total",
    "soak.mirror",
    "soak.apply",
    "soak.numbers",
    "",
)
PAYLOADS: Final = (
    b"",
    b"\x90",
    b"\x91\x90",
    b"\x91\x92\xa1n\x01",
    b"\x91\x91\x03",
    b"\x91\x92\x03\x0a",
    b"\x91\x92\xd4\x03\x01\x02",
    b"\x91\x92\xd4\x05\x03\xd4\x04\x05",
    b"\xc1",
    bytes(300),
    bytes(1100),
)
#: Bodies of extension types: numbers of attachments and of live values, and arrays.
BODIES: Final = (
    *(0, 1, 2, -1, "x"),
    *(
        ["<f8", [2], bytes(16)],
        ["|u1", [3], 0],
        ["<M8[ns]", [1], 1],
        ["|S3", [2, 0], b""],
        ["|b1", [2], b"\x00\x02"],
    ),
)
FIELDS: Final = {0: 11, 1: 3, 2: 2, 3: 3, 4: 3, 5: 4, 6: 3, 7: 11, 8: 5, 9: 2, 10: 8, 11: 3}


@dataclasses.dataclass
class Message:
    """One message of an input."""

    action: int
    frames: list[bytes]


def split(data: bytes) -> tuple[int, list[Message]]:
    """Take an input apart: its first byte and its messages."""
    messages = []
    position = 1
    while position < len(data):
        head, position = data[position], position + 1
        frames = []
        for _ in range(head % 4 + 1):
            length = int.from_bytes(data[position : position + 2], "big")
            frames.append(data[position + 2 : position + 2 + length])
            position += 2 + length
        messages.append(Message(head >> 2, frames))
    return (data[0] if data else 0), messages


def join(mode: int, messages: list[Message]) -> bytes:
    """Put an input together."""
    parts = [bytes([mode])]
    for message in messages:
        frames = [frame[:LONGEST] for frame in message.frames[:4]] or [b""]
        parts.append(bytes([(message.action % 64) << 2 | len(frames) - 1]))
        parts += [len(frame).to_bytes(2, "big") + frame for frame in frames]
    return b"".join(parts)


def pack(commands: Any) -> bytes:
    """Encode what may be commands."""
    return bytes(msgpack.packb(commands, use_bin_type=True))


def unpack(frame: bytes) -> Any:
    """Decode what may be commands; ``None`` if it is nothing."""
    try:
        return msgpack.unpackb(frame, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return None


class Mutator:
    """Makes and changes commands, messages and inputs, all by the numbers of one source of chance."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.makers: Mapping[int, Callable[[], list[Any]]] = {
            0: lambda: [*HELLO[:8], source.choice([{}, SMALL_LIMITS]), *HELLO[9:]],
            1: lambda: [1, source.choice(["version", "limit", "x"]), "text"],
            2: lambda: [2, [{"name": f"s{source.randrange(3)}", "version": "1"}]],
            3: lambda: [3, self.number(), self.number()],
            4: lambda: [4, source.randrange(4), 0],
            5: lambda: [5, self.channel(), source.choice(["draining", "closing", "protocol", "idle"]), ""],
            6: lambda: [6, source.choice([0, self.channel()]), self.number()],
            7: self.opening,
            8: lambda: [8, self.channel(), source.choice(PAYLOADS), source.choice([0, 0, 1, 2, 3]), 0],
            9: lambda: [9, self.channel()],
            10: lambda: [10, self.channel(), source.choice([0, 0, 5]), source.choice([None, *PAYLOADS])],
            11: lambda: [11, self.channel(), source.choice(["", "enough"])],
        }

    def number(self) -> int:
        """A number at an edge, or any small one."""
        return self.random.choice(EDGES) if self.random.random() < 0.4 else self.random.randrange(20)

    def channel(self) -> int:
        """A number that a channel may well have."""
        return self.random.randrange(1, 12)

    def opening(self) -> list[Any]:
        """``OPEN`` with any of what it may carry."""
        choose = self.random.choice
        return [
            *(
                7,
                self.random.randrange(1, 40),
                choose([*TARGETS, *TARGETS, None, 1]),
                choose([0, 0, 1, 3, 5]),
            ),
            *(choose([None, *PAYLOADS]), 0, choose([None, None, 1, 5000])),
            choose([None, None, None, {"k": "v"}, {"K": 1}, {"k": b"x" * 200}]),
            *(choose([None, None, 0, 100]), choose([None, None, self.channel()])),
            choose([None, None, "msgpack", "json", "raw", "pickle"]),
        ]

    def command(self) -> Any:
        """A command that is right in itself, more often one of channels."""
        return self.makers[self.random.choice([*range(12), 7, 7, 7, 8, 8, 10, 6])]()

    def value(self) -> Any:
        """Anything that can stand in a field."""
        source = self.random
        return source.choice(
            [
                *(None, True, 1.5, "", "text", "x" * source.choice([255, 256, 8193])),
                *(source.randbytes(source.randrange(40)), [], {}, [[1]], {"k": "v"}, self.number()),
                *(
                    self.number(),
                    self.channel(),
                    msgpack.ExtType(source.randrange(6), pack(source.choice(BODIES))),
                ),
            ]
        )

    def change_command(self, command: Any) -> Any:
        """Change a field, or the number of them."""
        if not isinstance(command, list) or not command:
            return self.command()
        source = self.random
        changed = list(command)
        match source.randrange(6):
            case 0:
                changed = changed[: source.randrange(len(changed) + 1)]
            case 1:
                changed.append(self.value())
            case 2 if isinstance(changed[0], int) and changed[0] in FIELDS:
                # The field of another command of the same kind.
                other = self.makers[changed[0]]()
                place = source.randrange(min(len(changed), len(other)))
                changed[place] = other[place]
            case _:
                place = source.randrange(len(changed))
                old = changed[place]
                if isinstance(old, int) and source.random() < 0.6:
                    changed[place] = (
                        old + source.choice([-2, -1, 1, 2]) if source.random() < 0.5 else self.number()
                    )
                else:
                    changed[place] = self.value()
        return changed

    def change_bytes(self, frame: bytes) -> bytes:
        """Change a few bytes."""
        source, changed = self.random, bytearray(frame or b"\x90")
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(changed) + 1)
            match source.randrange(4):
                case 0:
                    changed[place : place + 1] = source.randbytes(1)
                case 1:
                    del changed[place : place + source.randint(1, 4)]
                case 2:
                    changed[place:place] = source.randbytes(source.randint(1, 4))
                case _:
                    del changed[place:]
        return bytes(changed)

    def change_frames(self, frames: list[bytes]) -> list[bytes]:
        """Change a message: mostly its commands, sometimes its attachments or its bytes."""
        source, frames = self.random, list(frames) or [b"\x90"]
        if source.random() < 0.15:
            frames[0] = self.change_bytes(frames[0])
            return frames
        if source.random() < 0.1:
            frames[1:] = [source.randbytes(source.choice([0, 5, 300])) for _ in range(source.randrange(4))]
        commands = unpack(frames[0])
        if not isinstance(commands, list):
            commands = []
        place = source.randrange(len(commands) + 1)
        match source.randrange(5):
            case 0:
                commands.insert(place, self.command())
            case 1 if commands:
                commands.insert(place, source.choice(commands))
            case 2 if len(commands) > 1:
                del commands[place % len(commands)]
            case _ if commands:
                place %= len(commands)
                commands[place] = self.change_command(commands[place])
            case _:
                commands.append(self.command())
        try:
            frames[0] = pack(commands)
        except (ValueError, OverflowError, TypeError):  # a number that no msgpack can hold
            frames[0] = self.change_bytes(frames[0])
        return frames

    def change(self, data: bytes) -> bytes:
        """Change an input."""
        source = self.random
        mode, messages = split(data)
        for _ in range(source.randint(1, 3)):
            place = source.randrange(len(messages) + 1)
            match source.randrange(8):
                case 0:
                    messages.insert(place, Message(source.randrange(64), [pack([self.command()])]))
                case 1 if len(messages) > 1:
                    del messages[place % len(messages)]
                case 2 if messages:
                    messages.insert(place, dataclasses.replace(source.choice(messages)))
                case 3:
                    mode = source.randrange(256)
                case 4 if messages:
                    messages[place % len(messages)].action = source.randrange(64)
                case _ if messages:
                    message = messages[place % len(messages)]
                    message.frames = self.change_frames(message.frames)
                case _:
                    messages.append(Message(0, [pack([self.command()])]))
        return join(mode, messages)
