"""pyzmq alone, blocking, in one thread a side: what sockets and msgpack cost when nothing else is done.

One message of the socket is one request, reply or item; nothing is batched. There is no event loop, no
protocol, no flow control and no error handling: a floor for latency, not something to build on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import zmq

from benchmarks._payloads import CHUNK, SMALL
from benchmarks.peers import Client, More
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Threads

#: Items that one request of a download asks for; two requests are under way at any time.
_BURST = 16 * CHUNK
_ECHO, _ECHO_BYTES, _REPEAT, _ITEM, _END = b"e", b"b", b"s", b"i", b"n"


class _Server:
    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._swallowed = 0

    def answer(self) -> None:
        socket = self._socket
        client = socket.recv()
        operation = socket.recv()
        if operation == _ECHO:
            value = decode(socket.recv())
            socket.send(client, zmq.SNDMORE)
            socket.send(encode(value))
        elif operation == _ITEM:
            decode(socket.recv())
            self._swallowed += 1
        elif operation == _ECHO_BYTES:
            frame = socket.recv(copy=False)
            socket.send(client, zmq.SNDMORE)
            socket.send(frame, copy=False)
        elif operation == _END:
            socket.recv()
            socket.send(client, zmq.SNDMORE)
            socket.send(encode({"number": self._swallowed}))
            self._swallowed = 0
        else:
            value = decode(socket.recv())
            for _ in range(_BURST):
                socket.send(client, zmq.SNDMORE)
                socket.send(encode(value))


class PyzmqClient(Client):
    """See the base class."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self.pipelined = self._pipelined

    def _ask(self, operation: bytes, value: Any) -> None:
        self._socket.send(operation, zmq.SNDMORE)
        self._socket.send(encode(value))

    async def unary(self, value: Any, /) -> Any:
        self._ask(_ECHO, value)
        return decode(self._socket.recv())

    async def _pipelined(self, in_flight: int, more: Callable[[], bool]) -> None:
        for _ in range(in_flight):
            self._ask(_ECHO, SMALL)
        while more():
            decode(self._socket.recv())
            self._ask(_ECHO, SMALL)
        for _ in range(in_flight):
            self._socket.recv()

    async def echo(self, data: bytes, /) -> Any:
        self._socket.send(_ECHO_BYTES, zmq.SNDMORE)
        self._socket.send(data, copy=False)
        return self._socket.recv(copy=False)

    async def array(self, value: Any, /) -> Any:
        import numpy as np

        return np.frombuffer((await self.echo(value)).buffer, np.float64)

    async def download(self, value: Any, more: More) -> None:
        for _ in range(2):
            self._ask(_REPEAT, value)
        while True:
            for _ in range(_BURST // CHUNK):
                for _ in range(CHUNK):
                    decode(self._socket.recv())
                if not more(CHUNK):
                    return
            self._ask(_REPEAT, value)

    async def upload(self, value: Any, more: More) -> int:
        while True:
            for _ in range(CHUNK):
                self._ask(_ITEM, value)
            if not more(CHUNK):
                break
        self._ask(_END, {})
        return int(decode(self._socket.recv())["number"])


class PyzmqPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "zmq"
    runtime: ClassVar[Threads] = Threads()

    def serve(self, announce: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            # A ROUTER drops what does not fit its queue.
            socket.sndhwm = 0
            announce(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
            server = _Server(socket)
            while True:
                server.answer()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.rcvhwm = 0
            socket.linger = 0
            socket.connect(address)
            yield PyzmqClient(socket)


PEER = PyzmqPeer()
