"""nats-py: requests and streams through a broker, which is a third process. Streams have no flow control there,
so a client asks for so many items at a time, and has asked for the next before it has received the last.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import nats

from benchmarks._payloads import CHUNK, MiB
from benchmarks.peers import Client, More, find_program
from benchmarks.peers._msgpack import decode, encode
from benchmarks.peers._runtimes import Asyncio

#: Items that one request of a stream asks for; two requests are under way at any time.
_BURST = 16 * CHUNK
_TIMEOUT = 60.0
#: Of linux/prctl.h.
_PR_SET_PDEATHSIG = 1


class NatsClient(Client):
    """See the base class."""

    largest = 2 * MiB

    def __init__(self, connection: Any) -> None:
        self._nats = connection

    async def unary(self, value: Any, /) -> Any:
        return decode((await self._nats.request("echo", encode(value), timeout=_TIMEOUT)).data)

    async def echo(self, data: bytes, /) -> Any:
        return (await self._nats.request("echo_bytes", data, timeout=_TIMEOUT)).data

    async def download(self, value: Any, more: More) -> None:
        inbox = self._nats.new_inbox()
        subscription = await self._nats.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
        received = 0
        for _ in range(2):
            await self._nats.publish("repeat", encode(value), reply=inbox)
        async for message in subscription.messages:
            decode(message.data)
            received += 1
            if received % CHUNK == 0 and not more(CHUNK):
                break
            if received % _BURST == 0:
                await self._nats.publish("repeat", encode(value), reply=inbox)
        await subscription.unsubscribe()

    async def upload(self, value: Any, more: More) -> int:
        while True:
            for _ in range(_BURST):
                await self._nats.publish("swallow", encode(value))
            # The server counts in order, so this waits until it has all.
            going_on = more(_BURST)
            reply = await self._nats.request("swallow", b"end" if not going_on else b"", timeout=_TIMEOUT)
            if not going_on:
                return int(reply.data)


async def _serve(connection: Any) -> None:
    swallowed = 0

    async def echo(message: Any) -> None:
        await message.respond(encode(decode(message.data)))

    async def echo_bytes(message: Any) -> None:
        await message.respond(message.data)

    async def repeat(message: Any) -> None:
        value = decode(message.data)
        for _ in range(_BURST):
            await connection.publish(message.reply, encode(value))

    async def swallow(message: Any) -> None:
        nonlocal swallowed
        if message.reply:
            await message.respond(str(swallowed).encode())
            if message.data == b"end":
                swallowed = 0
        else:
            decode(message.data)
            swallowed += 1

    for handler in (echo, echo_bytes, repeat, swallow):
        await connection.subscribe(
            handler.__name__, cb=handler, pending_msgs_limit=-1, pending_bytes_limit=-1
        )


class NatsPeer:
    """See :class:`benchmarks.peers.Peer`. The server's process starts the broker, and ends it."""

    imports: ClassVar[str] = "nats"
    runtime: ClassVar[Asyncio] = Asyncio()

    def serve(self, announce: Callable[[str], None]) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = find_program("nats-server")
        assert program is not None
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory) / "nats.conf"
            config.write_text(f'listen: "127.0.0.1:{port}"\nmax_payload: {4 * MiB}\n', encoding="ascii")
            broker = subprocess.Popen(
                [program, "-c", str(config)], stderr=subprocess.DEVNULL, preexec_fn=_end_with_parent
            )
            try:
                asyncio.run(self._serve(port, announce))
            finally:
                broker.terminate()
                broker.wait()

    async def _serve(self, port: int, announce: Callable[[str], None]) -> None:
        await _wait_for(port)
        address = f"nats://127.0.0.1:{port}"
        connection = await _connect(address)
        await _serve(connection)
        await connection.flush()
        announce(address)
        await asyncio.Event().wait()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        connection = await _connect(address)
        try:
            yield NatsClient(connection)
        finally:
            await connection.close()


def _end_with_parent() -> None:
    """Have the kernel end this process with the one that started it, even if that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _connect(address: str) -> Any:
    return await nats.connect(address, allow_reconnect=False, connect_timeout=10, pending_size=1 << 30)


async def _wait_for(port: int) -> None:
    """Wait for the broker to come up."""
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise TimeoutError("the broker does not come up")


PEER = NatsPeer()
