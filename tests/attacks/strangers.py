"""What those do who have not greeted, and need not: they speak ZMTP by hand, or have libzmq say what it may."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any, Final

import msgpack
import zmq

from tests.attacks.wire import Context, until
from tests.transports.zmtp.sessions import OPENING, frame, greeting, message

#: The first number that libzmq makes up for a routing id, which it never seeds.
_FIRST: Final = 0x6B8B4567
#: What is sent of a message that never ends, at once.
_PIECE: Final = frame(bytes(60_000), 1)


def _dial(endpoint: str) -> socket.socket:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)))


def ids(context: Context, endpoint: str, end: float) -> None:
    """Connections that claim each other's routing ids, and those that libzmq gives to others."""
    kept: list[zmq.Socket[Any]] = []
    for number in range(64):
        one = context.socket(zmq.DEALER)
        one.linger = 0
        one.routing_id = b"\0" + struct.pack(">I", _FIRST + number % 60)
        one.connect(endpoint)
        one.send(b"")
        kept.append(one)
    for _ in until(end):
        one = context.socket(zmq.DEALER)
        one.linger = 0
        one.connect(endpoint)
        kept.append(one)
        time.sleep(0.01)  # more of them would be the kernel's business


def silent(context: Context, endpoint: str, end: float) -> None:
    """More connections than there may be, which say nothing, or only that they speak ZMTP."""
    kept: list[socket.socket] = []
    for _ in until(end):
        with contextlib.suppress(OSError):  # the target is not obliged to take them
            for said in (b"", greeting()[:10], greeting(), OPENING):
                one = _dial(endpoint)
                kept.append(one)
                one.sendall(said)
        time.sleep(0.01)  # more of them would be the kernel's business
        while len(kept) > 700:
            kept.pop(0).close()


def _endless(endpoint: str, before: bytes, end: float) -> None:
    for _ in until(end):
        with contextlib.suppress(OSError), _dial(endpoint) as one:
            one.sendall(before)
            for _ in until(end):
                one.sendall(_PIECE)


def endless(context: Context, endpoint: str, end: float) -> None:
    """A first message that does not end, again and again."""
    _endless(endpoint, OPENING, end)


def endless_later(context: Context, endpoint: str, end: float) -> None:
    """A message that does not end, after a greeting."""
    hello = msgpack.packb([[0, "DMTP", 1, 1, "attacker", "attacker"]])
    _endless(endpoint, OPENING + message(hello), end)


def crumbs(context: Context, endpoint: str, end: float) -> None:
    """A first message of very many empty frames, again and again."""
    pieces = frame(b"", 1) * 100_000
    for _ in until(end):
        with contextlib.suppress(OSError), _dial(endpoint) as one:
            one.sendall(OPENING)
            for _ in until(end):
                one.sendall(pieces)


STRANGERS: Final = (ids, silent, endless, endless_later, crumbs)
