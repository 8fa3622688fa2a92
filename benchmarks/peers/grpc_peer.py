"""grpc.aio with generic handlers: the methods are registered by hand, as no code is generated.

Dicts travel as msgpack by msgspec, which is also what Duplex does; bytes travel as they are.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc
import grpc.aio

from benchmarks._payloads import CHUNK
from benchmarks.peers import Client, More
from benchmarks.peers._certificates import Certificate, make_certificate
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Asyncio

_SERVICE = "Benchmark"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it all channels of a process share one connection.
    ("grpc.use_local_subchannel_pool", 1),
)


async def _echo(request: Any, _context: Any) -> Any:
    return request


async def _repeat(request: Any, _context: Any) -> AsyncIterator[Any]:
    while True:
        yield request


async def _swallow(requests: AsyncIterator[Any], _context: Any) -> Any:
    number = 0
    async for _ in requests:
        number += 1
    return {"number": number}


async def _send_back(requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield request


async def _wait(request: Any, _context: Any) -> AsyncIterator[Any]:
    yield request
    await asyncio.Event().wait()


class GrpcClient(Client):
    """See the base class."""

    def __init__(self, channel: Any) -> None:
        def path(name: str) -> str:
            return f"/{_SERVICE}/{name}"

        self.unary = channel.unary_unary(path("echo"), encode, decode)  # type: ignore[method-assign]
        self.echo = channel.unary_unary(path("echo_bytes"))  # type: ignore[method-assign]
        self._repeat = channel.unary_stream(path("repeat"), encode, decode)
        self._swallow = channel.stream_unary(path("swallow"), encode, decode)
        self._send_back = channel.stream_stream(path("send_back"), encode, decode)
        self._wait = channel.unary_stream(path("wait"), encode, decode)

    async def download(self, value: Any, more: More) -> None:
        received = 0
        call = self._repeat(value)
        async for _ in call:
            received += 1
            if received % CHUNK == 0 and not more(CHUNK):
                break
        call.cancel()

    async def upload(self, value: Any, more: More) -> int:
        call = self._swallow()
        await _send(call, value, more)
        return int((await call)["number"])

    async def converse(self, value: Any, more: More) -> int:
        received = 0
        call = self._send_back()
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(call, value, more))
            async for _ in call:
                received += 1
        return received

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        call = self._wait({})
        await call.read()
        yield
        call.cancel()


async def _send(call: Any, value: Any, more: More) -> None:
    while True:
        for _ in range(CHUNK):
            await call.write(value)
        if not more(CHUNK):
            break
    await call.done_writing()


class GrpcPeer:
    """See :class:`benchmarks.peers.Peer`.

    Args:
        tls: whether connections are encrypted; the address then ends with the path of the certificate.
    """

    imports: ClassVar[str] = "grpc.aio"
    runtime: ClassVar[Asyncio] = Asyncio()

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls

    def serve(self, announce: Callable[[str], None]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(self._serve(announce, Path(directory)))

    async def _serve(self, announce: Callable[[str], None], directory: Path) -> None:
        server = grpc.aio.server(options=_OPTIONS)
        handlers = {
            "echo": grpc.unary_unary_rpc_method_handler(_echo, decode, encode),
            "echo_bytes": grpc.unary_unary_rpc_method_handler(_echo),
            "repeat": grpc.unary_stream_rpc_method_handler(_repeat, decode, encode),
            "swallow": grpc.stream_unary_rpc_method_handler(_swallow, decode, encode),
            "send_back": grpc.stream_stream_rpc_method_handler(_send_back, decode, encode),
            "wait": grpc.unary_stream_rpc_method_handler(_wait, decode, encode),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        if self._tls:
            made = make_certificate(directory)
            port, path = server.add_secure_port("127.0.0.1:0", _credentials(made)), str(made.authority)
        else:
            port, path = server.add_insecure_port("127.0.0.1:0"), ""
        await server.start()
        announce(f"127.0.0.1:{port}|{path}")
        await server.wait_for_termination()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        target, _, path = address.partition("|")
        if path:
            channel = grpc.aio.secure_channel(target, _trust(path), options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        async with channel:
            await channel.channel_ready()
            yield GrpcClient(channel)


def _trust(path: str) -> Any:
    return grpc.ssl_channel_credentials(Path(path).read_bytes())


def _credentials(made: Certificate) -> Any:
    return grpc.ssl_server_credentials([(made.key.read_bytes(), made.chain.read_bytes())])


PLAIN = GrpcPeer(tls=False)
TLS = GrpcPeer(tls=True)
