"""Duplex, with the public names only, as the documentation tells people to write it."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
import trio

import duplex
from benchmarks._payloads import CHUNK, SMALL, MiB
from benchmarks.peers import Client, More
from benchmarks.peers._certificates import make_certificate
from benchmarks.peers._trio import Trio

#: Both sides take the largest payload, and a thousand links and more; all else is as it is by default.
_LOOPBACK: Final = "tcp://127.0.0.1:*"
LIMITS: Final = duplex.Limits(max_message=96 * MiB, max_links=4096)

tasks = duplex.Service("tasks")
inline = duplex.Service("inline")


class Sensor(msgspec.Struct):
    """What ``SMALL`` is, as a type."""

    id: int
    name: str
    value: float
    ok: bool
    tags: list[str]


@tasks.rpc
async def echo(value: dict[str, Any]) -> dict[str, Any]:
    return value


@tasks.rpc
async def echo_bytes(data: bytes) -> bytes:
    return data


@tasks.rpc
async def echo_array(data: np.ndarray) -> np.ndarray:
    return data


@tasks.rpc
async def repeat(value: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    while True:
        yield value


@tasks.rpc
async def swallow(items: duplex.ReceiveChannel[dict[str, Any]]) -> int:
    number = 0
    async for _ in items:
        number += 1
    return number


@tasks.rpc
async def send_back(items: duplex.ReceiveChannel[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    async for item in items:
        yield item


@tasks.rpc
async def visit(
    value: dict[str, Any], count: int, callback: duplex.Callback[[dict[str, Any]], dict[str, Any]]
) -> None:
    for _ in range(count):
        await callback(value)


@tasks.rpc
async def wait(value: int) -> AsyncIterator[int]:
    yield value
    await trio.sleep_forever()


@tasks.rpc
async def typed(id: int, name: str, value: float, ok: bool, tags: list[str]) -> int:
    return id


@tasks.rpc
async def untyped(id: Any, name: Any, value: Any, ok: Any, tags: Any) -> Any:
    return id


@tasks.rpc
async def typed_struct(value: Sensor) -> int:
    return value.id


@tasks.rpc
async def untyped_struct(value: dict[str, Any]) -> Any:
    return value["id"]


@tasks.rpc
def in_thread(value: dict[str, Any]) -> dict[str, Any]:
    return value


@tasks.rpc(inline=True)
def at_once(value: dict[str, Any]) -> dict[str, Any]:
    return value


@inline.rpc(name="echo", inline=True)
def echo_inline(value: dict[str, Any]) -> dict[str, Any]:
    return value


@inline.rpc(name="echo_bytes", inline=True)
def echo_bytes_inline(data: bytes) -> bytes:
    return data


@inline.rpc(name="repeat", inline=True)
def repeat_inline(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        yield value


def _host(nursery: trio.Nursery) -> duplex.Service:
    """Return a service that serves further peers beside this one, in the same process."""
    host = duplex.Service("host")

    @host.rpc
    async def methods(number: int) -> str:
        """Serve so many services of ten methods each, beside ``tasks``; return where."""
        services = [tasks]
        for index in range(number):
            service = duplex.Service(f"filler{index}")
            for method in range(10):
                service.rpc(name=f"echo{method}")(_filler)
            services.append(service)
        return str(await nursery.start(_serve, services, _LOOPBACK, {}))

    @host.rpc
    async def busy() -> str:
        """Serve ``tasks`` with options set that calls do not ask for; return where."""
        return str(await nursery.start(_serve, [tasks], _LOOPBACK, busy_options()))

    return host


async def _filler(value: dict[str, Any]) -> dict[str, Any]:
    return value


def busy_options() -> dict[str, Any]:
    """All options of a peer, none as it is by default: it watches, bounds, remembers and replaces what it can."""
    return {
        "name": "busy",
        "keepalive": duplex.Keepalive(interval=1.0, timeout=5.0, max_idle=60.0, max_age=600.0),
        "reconnect": duplex.Reconnect(initial=0.05),
        "limits": dataclasses.replace(LIMITS, max_handlers=5000, max_handlers_per_link=2000),
        "connect_timeout": 20.0,
        "max_threads": 8,
        "reflection": False,
        "debug": True,
        "idempotency": duplex.Idempotency(ttl=60.0),
    }


async def _serve(
    services: list[duplex.Service],
    endpoint: str,
    options: dict[str, Any],
    *,
    task_status: trio.TaskStatus[str],
) -> None:
    async with duplex.open_peer(services=services, **{"limits": LIMITS, **options}) as peer:
        task_status.started(await peer.bind(endpoint))
        await trio.sleep_forever()


class DuplexClient(Client):
    """See the base class."""

    largest = 64 * MiB

    def __init__(self, peer: duplex.Peer, service: duplex.Service) -> None:
        self._peer = peer
        self._remote = remote = peer.service(service)
        # Methods of the proxy themselves, so that nothing of ours is measured.
        self.unary = remote.echo  # type: ignore[method-assign]
        self.echo = remote.echo_bytes  # type: ignore[method-assign]
        if service is tasks:
            self.array = remote.echo_array  # type: ignore[method-assign]

    async def download(self, value: Any, more: More) -> None:
        received = 0
        async with self._remote.repeat.open(value) as call:
            async for _ in call:
                received += 1
                if received % CHUNK == 0 and not more(CHUNK):
                    break

    async def upload(self, value: Any, more: More) -> int:
        async with self._remote.swallow.open() as call:
            await _send(call, value, more)
            return int(await call.result())

    async def converse(self, value: Any, more: More) -> int:
        received = 0
        async with self._remote.send_back.open() as call:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, call, value, more)
                async for _ in call:
                    received += 1
        return received

    async def call_back(self, value: Any, count: int) -> None:
        await self._remote.visit(value, count, _echo_here)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        async with self._remote.wait.open(1) as call:
            async for _ in call:
                break
            yield

    @asynccontextmanager
    async def features(self) -> AsyncIterator[Mapping[str, tuple[Any, Any]]]:
        remote = self._remote
        call = functools.partial(remote.echo, SMALL)
        values = tuple(SMALL.values())
        sensor = Sensor(*values)
        metadata = {"tenant": "blue", "trace": "4bf92f3577b34da6a3ce929d0e0e4736"}

        async def opened() -> None:
            async with remote.echo.open(SMALL) as opened:
                await opened.result()

        async with duplex.open_peer(**busy_options()) as other:
            await other.connect(await self._peer.service("host").busy())
            yield {
                "deadline": (call, functools.partial(remote.echo.with_options(timeout=10.0), SMALL)),
                "metadata": (call, functools.partial(remote.echo.with_options(metadata=metadata), SMALL)),
                "validation": (
                    functools.partial(remote.untyped, *values),
                    functools.partial(remote.typed, *values),
                ),
                "validation-struct": (
                    functools.partial(remote.untyped_struct, sensor),
                    functools.partial(remote.typed_struct, sensor),
                ),
                "thread": (call, functools.partial(remote.in_thread, SMALL)),
                "inline": (call, functools.partial(remote.at_once, SMALL)),
                "open": (call, opened),
                "unused": (call, functools.partial(other.service(tasks).echo, SMALL)),
                "same": (call, functools.partial(remote.echo, SMALL)),
            }

    @asynccontextmanager
    async def with_methods(self, number: int) -> AsyncIterator[Client]:
        async with duplex.open_peer(limits=LIMITS) as other:
            await other.connect(await self._peer.service("host").methods(number))
            yield DuplexClient(other, tasks)


async def _echo_here(value: dict[str, Any]) -> dict[str, Any]:
    return value


async def _send(call: Any, value: Any, more: More) -> None:
    while True:
        for _ in range(CHUNK):
            await call.send(value)
        if not more(CHUNK):
            break
    await call.send_eof()


class DuplexPeer:
    """See :class:`benchmarks.peers.Peer`.

    Args:
        service: what is called.
        options: of both peers.
        endpoint: where the server binds. With ``tls://`` the address ends with the path of what clients trust.
    """

    imports: ClassVar[str] = "duplex"
    runtime: ClassVar[Trio] = Trio()

    def __init__(
        self,
        service: duplex.Service,
        options: dict[str, Any] | None = None,
        endpoint: str = _LOOPBACK,
    ) -> None:
        self._service = service
        self._options = options or {}
        self._endpoint = endpoint

    def serve(self, announce: Callable[[str], None]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            options, path = self._options, ""
            if self._endpoint.startswith("tls://"):
                made = make_certificate(Path(directory))
                options = {**options, "tls": duplex.TLS(certificate=made.chain, key=made.key)}
                path = f"|{made.authority}"

            async def main() -> None:
                async with trio.open_nursery() as nursery:
                    services = [self._service, _host(nursery)]
                    announce(await nursery.start(_serve, services, self._endpoint, options) + path)

            trio.run(main)

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        endpoint, _, path = address.partition("|")
        tls = duplex.TLS(ca=path) if path else None
        async with duplex.open_peer(limits=LIMITS, tls=tls, **self._options) as peer:
            await peer.connect(endpoint)
            yield DuplexClient(peer, self._service)


TASKS = DuplexPeer(tasks)
INLINE = DuplexPeer(inline)
LIBZMQ = DuplexPeer(tasks, endpoint="zmq+tcp://127.0.0.1:*")
TLS = DuplexPeer(tasks, endpoint="tls://127.0.0.1:*")
