"""Small deterministic programs whose instructions are counted: ``python -m benchmarks._micro unary=200 download=0``.

Both sides are in one process. As a rule they talk over ``memory://``, so there is no socket, no second thread and no kernel in
what is counted. Each program does something a given number of times; the difference between two numbers is
free of what starting up costs.

``reference`` uses no Duplex: tasks of trio that hand over to one another, and msgpack. What the others take is
told as a multiple of it, which holds beyond one build of Python.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import trio
from trio.testing import MockClock

import duplex
from benchmarks._payloads import SMALL, MiB, some_bytes

_LARGE: Final = some_bytes(MiB)

micro = duplex.Service("micro")


@micro.rpc
async def echo(value: dict[str, Any]) -> dict[str, Any]:
    return value


@micro.rpc
async def echo_bytes(data: bytes) -> bytes:
    return data


@micro.rpc
async def repeat(value: dict[str, Any], count: int) -> AsyncIterator[dict[str, Any]]:
    for _ in range(count):
        yield value


@micro.rpc
async def swallow(items: duplex.ReceiveChannel[dict[str, Any]]) -> int:
    return len([None async for _ in items])


async def _reference(count: int, _endpoint: str) -> None:
    """Hand a message to another task and back, each side encoding and decoding it."""
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    there, arrived = trio.open_memory_channel[bytes](1)
    back, returned = trio.open_memory_channel[bytes](1)

    async def answer() -> None:
        async for message in arrived:
            await back.send(encode(decode(message)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        for _ in range(count):
            await there.send(encode(SMALL))
            decode(await returned.receive())
        there.close()


async def _unary(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        for _ in range(count):
            await remote.echo(SMALL)

    await _with_remote(body, endpoint)


async def _many(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        async def work() -> None:
            for _ in range(count // 16):
                await remote.echo(SMALL)

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(work)

    await _with_remote(body, endpoint)


async def _deadline(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        method = remote.echo.with_options(timeout=60.0)
        for _ in range(count):
            await method(SMALL)

    await _with_remote(body, endpoint)


async def _large(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        for _ in range(count):
            await remote.echo_bytes(_LARGE)

    await _with_remote(body, endpoint)


async def _download(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        async with remote.repeat.open(SMALL, count) as call:
            async for _ in call:
                pass

    await _with_remote(body, endpoint)


async def _upload(count: int, endpoint: str) -> None:
    async def body(remote: duplex.ServiceProxy) -> None:
        async with remote.swallow.open() as call:
            for _ in range(count):
                await call.send(SMALL)
            await call.send_eof()
            await call.result()

    await _with_remote(body, endpoint)


async def _with_remote(body: Callable[[duplex.ServiceProxy], Awaitable[None]], endpoint: str) -> None:
    async with duplex.open_peer(services=[micro]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind(endpoint))
        await body(client.service(micro))


#: Programs by name, with the number of times to do it that is enough for a figure. Each is given how often to do it,
#: and where the server is to bind.
PROGRAMS: Final[Mapping[str, tuple[Callable[[int, str], Awaitable[None]], int]]] = {
    "reference": (_reference, 400),
    "unary": (_unary, 400),
    "unary-16": (_many, 800),
    "deadline": (_deadline, 400),
    "echo-1MiB": (_large, 40),
    "download": (_download, 2000),
    "upload": (_upload, 2000),
}


def main(arguments: list[str]) -> None:
    """Run each ``name=count`` that is given."""
    gc.disable()
    try:
        for argument in arguments:
            name, _, count = argument.partition("=")
            # A clock that stands still: what happens from time to time, such as asking for signs of life, does
            # not depend on how slowly valgrind runs.
            trio.run(PROGRAMS[name][0], int(count), "memory://micro", clock=MockClock())
    finally:
        gc.enable()


if __name__ == "__main__":
    main(sys.argv[1:])
