"""The service that the interoperability cases call, alone in a process when this module is run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio

import duplex
from tests.engine.helpers import serve_until_eof


class Request(msgspec.Struct):
    """One message of a ping-pong: how much to send back, and something to carry."""

    size: int
    payload: bytes


def make_service() -> duplex.Service:
    """Make the service, with a memory of its own."""
    interop = duplex.Service("interop", version="1.0.0")
    cancelled: dict[str, trio.Event] = {}

    @interop.rpc
    async def empty() -> None:
        """Take nothing, return nothing."""

    @interop.rpc
    async def unary(size: int, payload: bytes) -> bytes:
        """Return so many bytes."""
        assert payload == bytes(len(payload))
        return bytes(size)

    @interop.rpc
    async def collect(payloads: duplex.ReceiveChannel[bytes]) -> int:
        """Return how many bytes came in all."""
        return sum([len(payload) async for payload in payloads])

    @interop.rpc
    async def emit(sizes: list[int]) -> AsyncIterator[bytes]:
        """Stream payloads of these sizes."""
        for size in sizes:
            yield bytes(size)

    @interop.rpc
    async def exchange(requests: duplex.ReceiveChannel[Request]) -> AsyncIterator[bytes]:
        """Answer every request with as many bytes as it asks for."""
        async for request in requests:
            yield bytes(request.size)

    @interop.rpc
    async def echo_metadata() -> None:
        """Send the headers back as trailers."""
        call = duplex.current_call()
        call.trailers.update(call.metadata)

    @interop.rpc
    async def exchange_metadata(requests: duplex.ReceiveChannel[Request]) -> AsyncIterator[bytes]:
        """The same for a call with streams."""
        call = duplex.current_call()
        call.trailers.update(call.metadata)
        async for request in requests:
            yield bytes(request.size)

    @interop.rpc
    async def fail(code: int, message: str, details: Any = None) -> None:
        """End with a status."""
        raise duplex.RPCError(message, code=duplex.StatusCode(code), details=details)

    @interop.rpc
    async def exchange_failing(
        requests: duplex.ReceiveChannel[Request], code: int, message: str
    ) -> AsyncIterator[bytes]:
        """Answer one request, then end with a status."""
        async for request in requests:
            yield bytes(request.size)
            break
        raise duplex.RPCError(message, code=duplex.StatusCode(code))

    @interop.rpc
    async def hang(requests: duplex.ReceiveChannel[Request], key: str) -> AsyncIterator[bytes]:
        """Answer every request, never end, and note how it was ended."""
        event = cancelled.setdefault(key, trio.Event())
        try:
            async for request in requests:
                yield bytes(request.size)
            await trio.sleep_forever()
        finally:
            event.set()

    @interop.rpc
    async def wait_cancelled(key: str) -> bool:
        """Return once the call of that key has been ended."""
        await cancelled.setdefault(key, trio.Event()).wait()
        return True

    return interop


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(make_service(), endpoint=sys.argv[1], name="interop server"))
