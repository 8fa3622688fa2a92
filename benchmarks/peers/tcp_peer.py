"""TCP alone: blocking sockets, a byte and a length before each message, one thread a connection.

What the operating system and msgpack cost; there is no protocol, no flow control but TCP's, and no error handling.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, ClassVar, cast

from benchmarks._payloads import CHUNK, SMALL
from benchmarks.peers import Client, More
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Threads

_HEADER = struct.Struct("!cI")
_ECHO, _ECHO_BYTES, _REPEAT, _ITEM, _END = b"e", b"b", b"s", b"i", b"n"
_BUFFER = 1 << 16


class _Connection:
    """Messages over a stream; what is received in one piece is read with one system call."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._file = cast("BinaryIO", connection.makefile("rb", _BUFFER))

    def send(self, operation: bytes, body: bytes) -> None:
        header = _HEADER.pack(operation, len(body))
        if len(body) < _BUFFER:
            self._socket.sendall(header + body)
        else:
            self._socket.sendall(header)
            self._socket.sendall(body)

    def receive(self) -> tuple[bytes, bytes]:
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise EOFError
        operation, length = _HEADER.unpack(header)
        return operation, self._file.read(length)


def _serve(accepted: socket.socket) -> None:
    connection = _Connection(accepted)
    swallowed = 0
    try:
        while True:
            operation, body = connection.receive()
            if operation == _ECHO:
                connection.send(_ECHO, encode(decode(body)))
            elif operation == _ECHO_BYTES:
                connection.send(_ECHO_BYTES, body)
            elif operation == _ITEM:
                decode(body)
                swallowed += 1
            elif operation == _END:
                connection.send(_END, encode({"number": swallowed}))
                swallowed = 0
            else:
                value = decode(body)
                while True:
                    connection.send(_REPEAT, encode(value))
    except (EOFError, ConnectionError):
        return  # the client has gone


class TcpClient(Client):
    """See the base class."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connection = _Connection(socket.create_connection(address))
        self.pipelined = self._pipelined

    async def unary(self, value: Any, /) -> Any:
        self._connection.send(_ECHO, encode(value))
        return decode(self._connection.receive()[1])

    async def _pipelined(self, in_flight: int, more: Callable[[], bool]) -> None:
        connection = self._connection
        for _ in range(in_flight):
            connection.send(_ECHO, encode(SMALL))
        while more():
            decode(connection.receive()[1])
            connection.send(_ECHO, encode(SMALL))
        for _ in range(in_flight):
            connection.receive()

    async def echo(self, data: bytes, /) -> Any:
        self._connection.send(_ECHO_BYTES, data)
        return self._connection.receive()[1]

    async def download(self, value: Any, more: More) -> None:
        # A stream has no end but that of its connection, so it has one of its own.
        with socket.create_connection(self._address) as opened:
            connection = _Connection(opened)
            connection.send(_REPEAT, encode(value))
            while True:
                for _ in range(CHUNK):
                    decode(connection.receive()[1])
                if not more(CHUNK):
                    return

    async def upload(self, value: Any, more: More) -> int:
        while True:
            for _ in range(CHUNK):
                self._connection.send(_ITEM, encode(value))
            if not more(CHUNK):
                break
        self._connection.send(_END, b"")
        return int(decode(self._connection.receive()[1])["number"])

    def close(self) -> None:
        self._connection._socket.close()


class TcpPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "socket"
    runtime: ClassVar[Threads] = Threads()

    def serve(self, announce: Callable[[str], None]) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            announce(str(listener.getsockname()[1]))
            while True:
                accepted, _ = listener.accept()
                threading.Thread(target=_serve, args=(accepted,), daemon=True).start()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        client = TcpClient(("127.0.0.1", int(address)))
        try:
            yield client
        finally:
            client.close()


PEER = TcpPeer()
