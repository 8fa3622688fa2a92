"""One link that is spoken by hand, for attackers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack
import zmq

LARGEST: Final = 2**53 - 1
Context = zmq.Context[Any]


def positional(*values: Any) -> bytes:
    """Return a payload of positional arguments."""
    return bytes(msgpack.packb([list(values)], use_bin_type=True))


class Attacker:
    """One link."""

    def __init__(self, context: Context, endpoint: str, *, reads: bool = True, limits: Any = None) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.SNDHWM, 100)
        if not reads:
            self.socket.set(zmq.RCVHWM, 1)
            self.socket.set(zmq.RCVBUF, 4096)
        self.socket.connect(endpoint)
        self.channels = itertools.count(1, 2)
        self.credit = 16 * 1024 * 1024
        self.answered = 0
        #: Calls that somebody keeps count of.
        self.asked = 0
        self.say([0, "DMTP", 1, 1, "attacker", "attacker", ["msgpack"], [], limits or {}])
        self.socket.recv_multipart()

    def say(self, *commands: Any, attachments: Sequence[bytes] = ()) -> bool:
        """Send a batch; tell whether there was room for it."""
        frames = [msgpack.packb(list(commands), use_bin_type=True), *attachments]
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def read(self, seconds: float = 0.0) -> list[Any]:
        """Read all that has come, waiting for some if there is none, and answer pings as everybody must. Return what else
        came than that, credit for the link, and the ends of calls."""
        self.socket.poll(round(seconds * 1000))
        other = []
        while self.socket.poll(0):
            for command in msgpack.unpackb(self.socket.recv_multipart()[0], strict_map_key=False):
                if command[0] == 3:
                    self.say([4, command[1], 0])
                elif command[0] == 6 and command[1] == 0:
                    self.credit += command[2]
                elif command[0] == 10:
                    self.answered += 1
                else:
                    other.append(command)
        return other

    def opened(
        self, method: str, *values: Any, flags: int = 3, metadata: Any = None, timeout: int | None = None
    ) -> list[Any]:
        """A command that opens a channel: for a method of the target's, or one whose full name it is."""
        target = method if "." in method else f"target.{method}"
        return [7, next(self.channels), target, flags, positional(*values), 0, timeout, metadata]


def until(end: float) -> Iterator[None]:
    """Go on until some time, as :func:`time.monotonic` counts."""
    while time.monotonic() < end:
        yield
