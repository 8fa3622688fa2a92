"""HTTP servers that say exactly what a test wants, over real sockets."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def read_request(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    """Read one request; return its head and its body. ``b""`` when the client has closed."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await stream.receive_some(4096)
        if not chunk:
            return b"", b""
        head += chunk
    head, _, body = head.partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if b"Content-Length" in line).split(b":")[1])
    while len(body) < length:
        body += await stream.receive_some(4096)
    return head, body


def answering(*answers: bytes) -> Handler:
    """A server that gives each request the next of some answers, the last one for ever; whole or in bytes."""

    async def handle(stream: trio.abc.Stream) -> None:
        left = list(answers)
        while (await read_request(stream))[0]:
            await stream.send_all(left.pop(0) if len(left) > 1 else left[0])

    return handle


class Server:
    """A listener that counts its connections."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.open = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open += 1
        try:
            async with stream:
                await self._handler(stream)
        except trio.BrokenResourceError:
            pass  # the client went away
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def served(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, int]]:
    server = Server(handler)
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener | trio.SSLListener[trio.SocketStream]]
        listeners = [*await trio.open_tcp_listeners(0, host="127.0.0.1")]
        assert isinstance(listeners[0], trio.SocketListener)
        port = listeners[0].socket.getsockname()[1]
        if tls is not None:
            listeners = [trio.SSLListener(listeners[0], tls, https_compatible=True)]
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server, port
        nursery.cancel_scope.cancel()


def said(body: str, status: int = 200, *headers: str) -> bytes:
    """Return the words of an answer."""
    head = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join([*head, "", body]).encode()
