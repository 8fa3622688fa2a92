"""pyzmq alone, blocking, in one thread a side: what sockets and msgpack cost when nothing else is done.

One message of the socket is one request, reply or item; nothing is batched. There is no event loop, no
protocol, no flow control and no error handling: a floor for latency, not something to build on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from benchmarks.scenarios import CHUNK, IN_FLIGHT, LARGE, SMALL, Count, Laps

#: Items that one request of scenario c asks for; two requests are under way at any time.
_BURST = 16 * CHUNK
_ECHO, _ECHO_BYTES, _BURST_OF = b"e", b"b", b"s"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class PyzmqPeer:
    """See :class:`benchmarks.peers.Peer`."""

    def serve(self, announce: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            # A ROUTER drops what does not fit its queue.
            socket.sndhwm = 0
            announce(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
            while True:
                _answer(socket)

    def run(self, scenario: str, address: str, seconds: float) -> float:
        measure = {"a": _sequential, "b": _concurrent, "c": _stream, "d": _large}[scenario]
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.rcvhwm = 0
            socket.linger = 0
            socket.connect(address)
            return measure(socket, seconds)


def _answer(socket: zmq.Socket[bytes]) -> None:
    client = socket.recv()
    operation = socket.recv()
    if operation == _ECHO:
        value = _decode(socket.recv())
        socket.send(client, zmq.SNDMORE)
        socket.send(_encode(value))
    elif operation == _ECHO_BYTES:
        frame = socket.recv(copy=False)
        socket.send(client, zmq.SNDMORE)
        socket.send(frame, copy=False)
    else:
        value = _decode(socket.recv())
        for _ in range(_BURST):
            socket.send(client, zmq.SNDMORE)
            socket.send(_encode(value))


def _ask(socket: zmq.Socket[bytes], operation: bytes) -> None:
    socket.send(operation, zmq.SNDMORE)
    socket.send(_encode(SMALL))


def _sequential(socket: zmq.Socket[bytes], seconds: float) -> float:
    laps = Laps(seconds)
    while laps.running:
        _ask(socket, _ECHO)
        _decode(socket.recv())
        laps.lap()
    return laps.median


def _concurrent(socket: zmq.Socket[bytes], seconds: float) -> float:
    count = Count(seconds)
    for _ in range(IN_FLIGHT):
        _ask(socket, _ECHO)
    while count.more():
        _decode(socket.recv())
        _ask(socket, _ECHO)
    return count.per_second


def _stream(socket: zmq.Socket[bytes], seconds: float) -> float:
    count = Count(seconds)
    for _ in range(2):
        _ask(socket, _BURST_OF)
    while True:
        for _ in range(_BURST // CHUNK):
            for _ in range(CHUNK):
                _decode(socket.recv())
            if not count.more(CHUNK):
                return count.per_second
        _ask(socket, _BURST_OF)


def _large(socket: zmq.Socket[bytes], seconds: float) -> float:
    laps = Laps(seconds)
    while laps.running:
        socket.send(_ECHO_BYTES, zmq.SNDMORE)
        socket.send(LARGE, copy=False)
        socket.recv(copy=False)
        laps.lap()
    return laps.megabytes


PEER = PyzmqPeer()
