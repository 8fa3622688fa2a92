"""What the tests of ports over sockets share: ports, and remote ends that are plain sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from duplex.transports import TransportOptions, Transports, ZmtpTransport
from tests.machine import within
from tests.transports.helpers import QUICK, Ports, open_ports

KiB = 1024
MiB = 1024 * KiB
STREAMS = Transports([ZmtpTransport()])
BOTH = pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*"])
ALL = pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*", "tls://127.0.0.1:*"])
CLOSED = "the connection was closed or lost"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Ports]:
    async with open_ports(STREAMS) as ports:
        yield ports


def dial(endpoint: str) -> socket.socket:
    """Connect without saying anything."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        wire = socket.socket(socket.AF_UNIX)
        wire.connect(f"\0{rest[1:]}" if rest.startswith("@") else rest)
        return wire
    host, _, port = rest.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)))


def heard(wire: socket.socket) -> bytes:
    """All that comes until the other side has ended the connection."""
    wire.settimeout(within(10))
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := wire.recv(MiB):
            data += part
    return data


async def hears(wire: socket.socket) -> bytes:
    return await trio.to_thread.run_sync(heard, wire)


def with_options(**changes: Any) -> TransportOptions:
    return dataclasses.replace(QUICK, **changes)
