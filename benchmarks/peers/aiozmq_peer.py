"""aiozmq.rpc: asyncio over ZeroMQ; unary calls only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiozmq.rpc

from benchmarks.peers import Client
from benchmarks.peers._runtimes import Asyncio


class _Handler(aiozmq.rpc.AttrHandler):
    @aiozmq.rpc.method
    async def echo(self, value: Any) -> Any:
        return value


class AiozmqClient(Client):
    """See the base class."""

    def __init__(self, client: Any) -> None:
        # What ``client.call`` gives remembers nothing but the name, and can be called again.
        self.unary = client.call.echo  # type: ignore[method-assign]
        self.echo = client.call.echo  # type: ignore[method-assign]


class AiozmqPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "aiozmq.rpc"
    runtime: ClassVar[Asyncio] = Asyncio()

    def serve(self, announce: Callable[[str], None]) -> None:
        async def main() -> None:
            server = await aiozmq.rpc.serve_rpc(_Handler(), bind="tcp://127.0.0.1:*")
            announce(next(iter(server.transport.bindings())))
            await server.wait_closed()

        asyncio.run(main())

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        client = await aiozmq.rpc.connect_rpc(connect=address)
        try:
            yield AiozmqClient(client)
        finally:
            client.close()
            await client.wait_closed()


PEER = AiozmqPeer()
