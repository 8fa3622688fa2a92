"""Duplex, with the public names only, as the documentation tells people to write it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import trio

import duplex
from benchmarks.scenarios import CHUNK, IN_FLIGHT, LARGE, SMALL, Count, Laps

tasks = duplex.Service("tasks")
inline = duplex.Service("inline")


@tasks.rpc
async def echo(value: dict[str, Any]) -> dict[str, Any]:
    return value


@tasks.rpc
async def echo_bytes(data: bytes) -> bytes:
    return data


@tasks.rpc
async def repeat(value: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    while True:
        yield value


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


class DuplexPeer:
    """See :class:`benchmarks.peers.Peer`."""

    def __init__(self, service: duplex.Service) -> None:
        self._service = service

    def serve(self, announce: Callable[[str], None]) -> None:
        async def main() -> None:
            async with duplex.open_peer(services=[self._service]) as peer:
                announce(await peer.bind("tcp://127.0.0.1:*"))
                await trio.sleep_forever()

        trio.run(main)

    def run(self, scenario: str, address: str, seconds: float) -> float:
        measure = {"a": _sequential, "b": _concurrent, "c": _stream, "d": _large}[scenario]

        async def main() -> float:
            async with duplex.open_peer() as peer:
                await peer.connect(address)
                return await measure(peer.service(self._service), seconds)

        return trio.run(main)


async def _sequential(remote: duplex.ServiceProxy, seconds: float) -> float:
    laps = Laps(seconds)
    while laps.running:
        await remote.echo(SMALL)
        laps.lap()
    return laps.median


async def _concurrent(remote: duplex.ServiceProxy, seconds: float) -> float:
    count = Count(seconds)

    async def work() -> None:
        while count.more():
            await remote.echo(SMALL)

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(work)
    return count.per_second


async def _stream(remote: duplex.ServiceProxy, seconds: float) -> float:
    count = Count(seconds)
    received = 0
    async with remote.repeat.open(SMALL) as call:
        async for _ in call:
            received += 1
            if received % CHUNK == 0 and not count.more(CHUNK):
                break
    return count.per_second


async def _large(remote: duplex.ServiceProxy, seconds: float) -> float:
    laps = Laps(seconds)
    while laps.running:
        await remote.echo_bytes(LARGE)
        laps.lap()
    return laps.megabytes


TASKS = DuplexPeer(tasks)
INLINE = DuplexPeer(inline)
