"""grpc.aio with generic handlers: the methods are registered by hand, as no code is generated.

Dicts travel as msgpack by msgspec, which is also what Duplex does; bytes travel as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import msgspec

from benchmarks.scenarios import CHUNK, IN_FLIGHT, LARGE, SMALL, Count, Laps

_SERVICE = "Benchmark"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


async def _echo(request: Any, _context: Any) -> Any:
    return request


async def _repeat(request: Any, _context: Any) -> AsyncIterator[Any]:
    while True:
        yield request


class GrpcPeer:
    """See :class:`benchmarks.peers.Peer`."""

    def serve(self, announce: Callable[[str], None]) -> None:
        asyncio.run(_serve(announce))

    def run(self, scenario: str, address: str, seconds: float) -> float:
        measure = {"a": _sequential, "b": _concurrent, "c": _stream, "d": _large}[scenario]

        async def main() -> float:
            async with grpc.aio.insecure_channel(address) as channel:
                await channel.channel_ready()
                return await measure(channel, seconds)

        return asyncio.run(main())


async def _serve(announce: Callable[[str], None]) -> None:
    server = grpc.aio.server()
    handlers = {
        "echo": grpc.unary_unary_rpc_method_handler(_echo, _decode, _encode),
        "echo_bytes": grpc.unary_unary_rpc_method_handler(_echo),
        "repeat": grpc.unary_stream_rpc_method_handler(_repeat, _decode, _encode),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(f"127.0.0.1:{port}")
    await server.wait_for_termination()


def _unary(channel: Any) -> Any:
    return channel.unary_unary(f"/{_SERVICE}/echo", _encode, _decode)


async def _sequential(channel: Any, seconds: float) -> float:
    echo = _unary(channel)
    laps = Laps(seconds)
    while laps.running:
        await echo(SMALL)
        laps.lap()
    return laps.median


async def _concurrent(channel: Any, seconds: float) -> float:
    echo = _unary(channel)
    count = Count(seconds)

    async def work() -> None:
        while count.more():
            await echo(SMALL)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    return count.per_second


async def _stream(channel: Any, seconds: float) -> float:
    repeat = channel.unary_stream(f"/{_SERVICE}/repeat", _encode, _decode)
    count = Count(seconds)
    received = 0
    call = repeat(SMALL)
    async for _ in call:
        received += 1
        if received % CHUNK == 0 and not count.more(CHUNK):
            break
    call.cancel()
    return count.per_second


async def _large(channel: Any, seconds: float) -> float:
    echo = channel.unary_unary(f"/{_SERVICE}/echo_bytes")
    laps = Laps(seconds)
    while laps.running:
        await echo(LARGE)
        laps.lap()
    return laps.megabytes


PEER = GrpcPeer()
