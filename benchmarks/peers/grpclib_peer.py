"""grpclib: gRPC in Python on asyncio and h2, with a msgpack codec in place of protobuf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

from benchmarks._payloads import CHUNK
from benchmarks.peers import Client, More
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Asyncio

_WINDOW = 2**31 - 1


class _Codec(CodecBase):
    __content_subtype__ = "msgpack"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return message if message_type is bytes else encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data if message_type is bytes else decode(data)


class _Service:
    async def echo(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def repeat(self, stream: Any) -> None:
        value = await stream.recv_message()
        while True:
            await stream.send_message(value)

    async def swallow(self, stream: Any) -> None:
        number = 0
        async for _ in stream:
            number += 1
        await stream.send_message({"number": number})

    async def send_back(self, stream: Any) -> None:
        async for item in stream:
            await stream.send_message(item)

    def __mapping__(self) -> Mapping[str, Any]:
        return {
            "/B/echo": Handler(self.echo, Cardinality.UNARY_UNARY, dict, dict),
            "/B/echo_bytes": Handler(self.echo, Cardinality.UNARY_UNARY, bytes, bytes),
            "/B/repeat": Handler(self.repeat, Cardinality.UNARY_STREAM, dict, dict),
            "/B/swallow": Handler(self.swallow, Cardinality.STREAM_UNARY, dict, dict),
            "/B/send_back": Handler(self.send_back, Cardinality.STREAM_STREAM, dict, dict),
        }


def _config() -> Configuration:
    return Configuration(
        http2_connection_window_size=_WINDOW,
        http2_stream_window_size=_WINDOW,  # the default is 4 MiB
    )


class GrpclibClient(Client):
    """See the base class."""

    def __init__(self, channel: Channel) -> None:
        self.unary = UnaryUnaryMethod(channel, "/B/echo", dict, dict)  # type: ignore[method-assign]
        self.echo = UnaryUnaryMethod(channel, "/B/echo_bytes", bytes, bytes)  # type: ignore[method-assign]
        self._repeat = UnaryStreamMethod(channel, "/B/repeat", dict, dict)
        self._swallow = StreamUnaryMethod(channel, "/B/swallow", dict, dict)
        self._send_back = StreamStreamMethod(channel, "/B/send_back", dict, dict)

    async def download(self, value: Any, more: More) -> None:
        received = 0
        async with self._repeat.open() as stream:
            await stream.send_message(value, end=True)
            async for _ in stream:
                received += 1
                if received % CHUNK == 0 and not more(CHUNK):
                    await stream.cancel()
                    break

    async def upload(self, value: Any, more: More) -> int:
        async with self._swallow.open() as stream:
            await _send(stream, value, more)
            return int((await stream.recv_message())["number"])

    async def converse(self, value: Any, more: More) -> int:
        received = 0
        async with self._send_back.open() as stream:
            await stream.send_request()
            async with asyncio.TaskGroup() as group:
                group.create_task(_send(stream, value, more))
                async for _ in stream:
                    received += 1
        return received


async def _send(stream: Any, value: Any, more: More) -> None:
    while True:
        for _ in range(CHUNK):
            await stream.send_message(value)
        if not more(CHUNK):
            break
    await stream.end()


class GrpclibPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "grpclib.client, grpclib.server"
    runtime: ClassVar[Asyncio] = Asyncio()

    def serve(self, announce: Callable[[str], None]) -> None:
        async def main() -> None:
            server = Server([_Service()], codec=_Codec(), config=_config())
            await server.start("127.0.0.1", 0)
            assert server._server is not None
            announce(str(server._server.sockets[0].getsockname()[1]))
            await server.wait_closed()

        asyncio.run(main())

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        channel = Channel("127.0.0.1", int(address), codec=_Codec(), config=_config())
        try:
            await channel.__connect__()
            yield GrpclibClient(channel)
        finally:
            channel.close()


PEER = GrpclibPeer()
