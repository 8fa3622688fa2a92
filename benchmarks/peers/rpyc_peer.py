"""RPyC: objects of another process. Its values are references, so dicts travel as msgpack, made by hand.

A connection handles one call at a time, so each call in flight has a connection and a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import rpyc
from rpyc.utils.server import ThreadedServer

from benchmarks._payloads import CHUNK, MiB
from benchmarks.peers import Client, More
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Threads

_CONFIG = {"sync_request_timeout": 60}


class _Service(rpyc.Service):
    def exposed_echo(self, value: bytes) -> bytes:
        return encode(decode(value))

    def exposed_echo_bytes(self, data: bytes) -> bytes:
        return data

    def exposed_repeat(self, value: bytes) -> Iterator[bytes]:
        decoded = decode(value)
        while True:
            yield encode(decoded)

    def exposed_visit(self, value: bytes, count: int, callback: Any) -> None:
        decoded = decode(value)
        for _ in range(count):
            decode(callback(encode(decoded)))


def _echo_here(value: bytes) -> bytes:
    return encode(decode(value))


class RpycClient(Client):
    """See the base class."""

    #: Larger ones take seconds.
    largest = MiB

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()
        self._root  # noqa: B018  connects

    @property
    def _root(self) -> Any:
        root = getattr(self._local, "root", None)
        if root is None:
            connection = rpyc.connect("127.0.0.1", self._port, config=_CONFIG)
            self._local.connection = connection
            root = self._local.root = connection.root
        return root

    async def unary(self, value: Any, /) -> Any:
        return decode(self._root.echo(encode(value)))

    async def echo(self, data: bytes, /) -> Any:
        return self._root.echo_bytes(data)

    async def download(self, value: Any, more: More) -> None:
        for received, item in enumerate(self._root.repeat(encode(value)), 1):
            decode(item)
            if received % CHUNK == 0 and not more(CHUNK):
                break

    async def call_back(self, value: Any, count: int) -> None:
        self._root.visit(encode(value), count, _echo_here)

    def close(self) -> None:
        self._local.connection.close()


class RpycPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "rpyc"
    runtime: ClassVar[Threads] = Threads()

    def serve(self, announce: Callable[[str], None]) -> None:
        server = ThreadedServer(_Service, hostname="127.0.0.1", port=0, backlog=1024, protocol_config=_CONFIG)
        announce(str(server.port))
        server.start()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        client = RpycClient(int(address))
        try:
            yield client
        finally:
            client.close()


PEER = RpycPeer()
