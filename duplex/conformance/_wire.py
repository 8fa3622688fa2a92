"""The raw wire: ZeroMQ sockets, one connection for each, and transport messages as lists of frames.

Nothing here knows what the frames mean, and nothing comes from ``duplex.transports``: the tool sends what a
real peer never would. One task at a time uses a socket, so its descriptor may be waited for right after
``EAGAIN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import trio
import zmq


class EndpointError(Exception):
    """The endpoint cannot be used; the message says why."""


def _why(error: zmq.ZMQError) -> str:
    if error.errno == zmq.EPROTONOSUPPORT:
        return "the suite speaks through ZeroMQ's library, so the implementation has to be at tcp:// or ipc://, and not at tls://"
    return str(error)


class Sockets:
    """The context that all sockets of one run belong to. Use as a context manager."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def connect(self, endpoint: str) -> Wire:
        """Begin a connection to a bound implementation; whether anybody is there shows when it answers.

        Raises:
            EndpointError: the endpoint is malformed.
        """
        socket = self._socket(zmq.DEALER)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise EndpointError(f"cannot connect to {endpoint}: {_why(error)}") from None
        return Wire(socket, routed=False)

    def bind(self, endpoint: str) -> Wire:
        """Let one implementation connect.

        Raises:
            EndpointError: the endpoint is malformed or in use.
        """
        socket = self._socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise EndpointError(f"cannot bind {endpoint}: {_why(error)}") from None
        return Wire(socket, routed=True)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        # Only what a scenario says bounds what it sends.
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        # A connection that the implementation ends stays ended.
        socket.set(zmq.RECONNECT_IVL, -1)
        return socket


class Wire:
    """One connection. ``routed`` says that the socket is a ROUTER, of which the first end that speaks is used."""

    def __init__(self, socket: zmq.Socket[bytes], *, routed: bool) -> None:
        self._socket = socket
        self._routed = routed
        self._end: bytes | None = None

    @property
    def endpoint(self) -> str:
        """What the socket was bound or connected to, with the real port."""
        value = self._socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(value, bytes)
        return value.rstrip(b"\0").decode()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a transport message; returns false if the connection is gone already."""
        parts = [self._end or b"", *frames] if self._routed else frames
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    async def receive(self) -> list[bytes]:
        """Wait for a transport message."""
        fd = int(self._socket.get(zmq.FD))
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await trio.lowlevel.wait_readable(fd)
                continue
            if not self._routed:
                return frames
            if self._end is None:
                self._end = frames[0]
            if frames[0] == self._end:
                return frames[1:]

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._socket.close(0)
