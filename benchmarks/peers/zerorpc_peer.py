"""zerorpc: gevent over ZeroMQ, msgpack, heartbeats; a greenlet for each call in flight."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import zerorpc

from benchmarks._payloads import CHUNK
from benchmarks.peers import Client, More
from benchmarks.peers._runtimes import Greenlets

_TIMEOUT = 60


class _Service:
    def echo(self, value: Any) -> Any:
        return value

    @zerorpc.stream
    def repeat(self, value: Any) -> Iterator[Any]:
        while True:
            yield value


class ZerorpcClient(Client):
    """See the base class."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def unary(self, value: Any, /) -> Any:
        return self._client.echo(value)

    async def echo(self, data: bytes, /) -> Any:
        return self._client.echo(data)

    async def download(self, value: Any, more: More) -> None:
        for received, _ in enumerate(self._client.repeat(value), 1):
            if received % CHUNK == 0 and not more(CHUNK):
                break


class ZerorpcPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "zerorpc"
    runtime: ClassVar[Greenlets] = Greenlets()

    def serve(self, announce: Callable[[str], None]) -> None:
        server = zerorpc.Server(_Service())
        server.bind("tcp://127.0.0.1:*")
        announce(server._events._socket.last_endpoint.decode().rstrip("\0"))
        server.run()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        client = zerorpc.Client(timeout=_TIMEOUT)
        client.connect(address)
        try:
            yield ZerorpcClient(client)
        finally:
            client.close()


PEER = ZerorpcPeer()
