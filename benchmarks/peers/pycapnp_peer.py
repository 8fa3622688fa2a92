"""Cap'n Proto through pycapnp: a C++ core, a schema, callbacks for streams.

A call reads what it sent and got, field by field, as the other peers build dicts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import capnp

from benchmarks._payloads import CHUNK, MiB
from benchmarks.peers import Client, More
from benchmarks.peers._runtimes import Asyncio

capnp.remove_import_hook()
_schema: Any = capnp.load(
    str(Path(__file__).with_name("bench.capnp")), imports=[str(Path(capnp.__file__).parent.parent)]
)


class _Server(_schema.Bench.Server):
    async def echo(self, value: Any, **_: Any) -> Any:
        return value.to_dict()

    async def echoBytes(self, data: bytes, **_: Any) -> bytes:
        return data

    async def repeat(self, value: Any, sink: Any, **_: Any) -> None:
        item = value.to_dict()
        while True:
            await sink.item(item)

    async def visit(self, value: Any, count: int, callback: Any, **_: Any) -> None:
        item = value.to_dict()
        for _number in range(count):
            (await callback.echo(item)).value.to_dict()


class _Sink(_schema.Sink.Server):
    def __init__(self, more: More) -> None:
        self._more = more
        self._received = 0
        self.ended = asyncio.Event()

    async def item(self, value: Any, **_: Any) -> None:
        value.to_dict()
        self._received += 1
        if self._received % CHUNK == 0 and not self.ended.is_set() and not self._more(CHUNK):
            self.ended.set()


class _Callback(_schema.Callback.Server):
    async def echo(self, value: Any, **_: Any) -> Any:
        return value.to_dict()


class PycapnpClient(Client):
    """See the base class."""

    largest = MiB * 32

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    async def unary(self, value: Any, /) -> Any:
        return (await self._remote.echo(value)).value.to_dict()

    async def echo(self, data: bytes, /) -> Any:
        return (await self._remote.echoBytes(data)).data

    async def download(self, value: Any, more: More) -> None:
        sink = _Sink(more)
        call = asyncio.ensure_future(_until_done(self._remote.repeat(value, sink)))
        await sink.ended.wait()
        call.cancel()

    async def call_back(self, value: Any, count: int) -> None:
        await self._remote.visit(value, count, _Callback())


async def _until_done(promise: Any) -> Any:
    return await promise


class PycapnpPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "capnp"
    runtime: ClassVar[Asyncio] = Asyncio(capnp.kj_loop)

    def serve(self, announce: Callable[[str], None]) -> None:
        async def connected(stream: Any) -> None:
            await capnp.TwoPartyServer(stream, bootstrap=_Server()).on_disconnect()

        async def main() -> None:
            server = await capnp.AsyncIoStream.create_server(connected, "127.0.0.1", 0)
            announce(str(server.sockets[0].getsockname()[1]))
            async with server:
                await server.serve_forever()

        asyncio.run(capnp.run(main()))

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        stream = await capnp.AsyncIoStream.create_connection("127.0.0.1", int(address))
        client = capnp.TwoPartyClient(stream)
        yield PycapnpClient(client.bootstrap().cast_as(_schema.Bench))


PEER = PycapnpPeer()
