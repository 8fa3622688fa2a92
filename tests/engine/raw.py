"""Peers that say whatever a test wants: bare sockets, and the wire written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

import msgpack
import trio
import zmq

#: ``HELLO`` of a peer that keeps the rules.
HELLO: Final = [0, "DMTP", 1, 1, "raw-peer-id", "raw"]


def batch(*commands: Any) -> bytes:
    """Frame 0 with these commands."""
    return bytes(msgpack.packb(list(commands), use_bin_type=True))


class _Raw:
    """A socket of its own context, read without blocking the event loop."""

    def __init__(self, kind: zmq.SocketType) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.SNDHWM, 0)
        # A connection that a peer cuts stays cut.
        self.socket.set(zmq.RECONNECT_IVL, -1)
        self.received: list[list[Any]] = []

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close(0)
        self.context.term()

    async def frames(self) -> list[bytes]:
        """Wait for one message."""
        fd = int(self.socket.get(zmq.FD))
        while True:
            try:
                return self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                # Safe right after EAGAIN: nothing else uses the socket in between.
                await trio.lowlevel.wait_readable(fd)

    def _split(self, frames: Sequence[bytes]) -> bytes:
        return frames[0]

    async def commands(self, op: int, count: int = 1) -> list[list[Any]]:
        """Wait for so many commands of a kind; all that comes is kept in ``received``."""
        while True:
            found = [command for command in self.received if command[0] == op]
            if len(found) >= count:
                return found
            await self.more()

    async def hears_the_end(self) -> list[Any]:
        """Wait for what a peer says before it gives up a link: ``REFUSE`` or ``GOAWAY``."""
        while True:
            for command in self.received:
                if command[0] in (1, 5):
                    return command
            await self.more()

    async def more(self) -> None:
        """Wait for one message and keep its commands in ``received``."""
        self.received += msgpack.unpackb(self._split(await self.frames()), strict_map_key=False)


class RawDealer(_Raw):
    """Connects to a bound peer."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(zmq.DEALER)
        self.socket.connect(endpoint)

    def __enter__(self) -> RawDealer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *frames: bytes) -> None:
        """Send a message of these frames."""
        self.socket.send_multipart(frames)

    def say(self, *commands: Any, attachments: Iterable[bytes] = ()) -> None:
        """Send a batch of commands."""
        self.send(batch(*commands), *attachments)

    async def shake_hands(self, *commands: Any) -> None:
        """Become a link; the commands are said right after ``HELLO`` was answered."""
        self.say(HELLO)
        await self.commands(0)
        if commands:
            self.say(*commands)


class RawRouter(_Raw):
    """Lets one peer connect."""

    def __init__(self) -> None:
        super().__init__(zmq.ROUTER)
        self.socket.set(zmq.ROUTER_MANDATORY, 1)
        self.socket.bind("tcp://127.0.0.1:*")
        bound = self.socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()
        self.peer = b""

    def __enter__(self) -> RawRouter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _split(self, frames: Sequence[bytes]) -> bytes:
        self.peer = frames[0]
        return frames[1]

    def send(self, *frames: bytes) -> None:
        """Send a message to the peer that was heard of last."""
        self.socket.send_multipart([self.peer, *frames])

    def say(self, *commands: Any, attachments: Iterable[bytes] = ()) -> None:
        """Send it a batch of commands."""
        self.send(batch(*commands), *attachments)

    async def shake_hands(
        self, *, services: Iterable[str] = (), limits: dict[str, int] | None = None
    ) -> None:
        """Wait for a peer and accept it."""
        await self.commands(0)
        offered = [{"name": name} for name in services]
        self.say([*HELLO, ["msgpack"], [], limits or {}, offered])
