"""Typed clients as users write them. It is not run: type checkers read it, and each line that ends in ``# refused`` must
be refused by them, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Never, Protocol, assert_type

import duplex


class Ticker:
    """The service's own class."""

    def __init__(self, step: int) -> None:
        self.step = step

    @duplex.rpc
    async def ticks(self, upto: int) -> AsyncIterator[int]:
        for tick in range(0, upto, self.step):
            yield tick

    @duplex.rpc
    async def add(self, a: int, b: int = 0) -> int:
        return a + b

    @duplex.rpc(idempotent=True)
    def plain(self, text: str) -> bytes:
        return text.encode()

    @duplex.rpc(inline=True)
    def letters(self, text: str) -> Iterator[str]:
        yield from text

    @duplex.rpc
    async def total(self, numbers: duplex.ReceiveChannel[int], scale: float = 1) -> float:
        return scale * sum([number async for number in numbers])

    @duplex.rpc
    async def shout(self, end: str, words: duplex.ReceiveChannel[str]) -> AsyncIterator[bytes]:
        async for word in words:
            yield (word + end).encode()

    @duplex.rpc
    async def talk(self, other: duplex.Channel[bytes, str], name: str) -> None:
        async for text in other:
            await other.send((name + text).encode())

    @duplex.rpc
    async def local(self) -> None:
        assert_type(await self.add(1), int)
        assert_type(self.plain("x"), bytes)
        async for tick in self.ticks(3):
            assert_type(tick, int)
        self.ticks.open(3)  # refused


class Doubled(Ticker):
    @duplex.rpc
    async def add(self, a: int, b: int = 0) -> int:
        return 2 * await super().add(a, b=b)


class Declared(Protocol):
    """What a caller knows of it."""

    ticks: duplex.Streaming[[int], Never, int]
    total: duplex.Streaming[[float], int, float]

    async def add(self, a: int, b: int = 0) -> int: ...


async def own_class(peer: duplex.Peer, link: duplex.Link) -> None:
    remote = peer.service(Ticker, name="t")
    assert_type(await remote.add(1, b=2), int)
    assert_type(await remote.plain("x"), bytes)
    async with remote.ticks.open(2) as ticks:
        async for tick in ticks:
            assert_type(tick, int)
        await ticks.send(1)  # refused
    async with remote.letters.open("abc") as letters:
        assert_type(await letters.receive(), str)
    async with remote.total.open(scale=0.5) as total:
        await total.send(3)
        await total.send("3")  # refused
        assert_type(await total.result(), float)
    async with remote.shout.open("!") as shout, remote.talk.open("x") as talk:
        await shout.send("word")
        await talk.send("word")
        assert_type(await shout.receive(), bytes)
        assert_type(await talk.receive(), bytes)
    await remote.add.notify(1)
    async for who, outcome in remote.add.with_options(max_answers=2, stall=0.5).gather(1, b=2):
        assert_type(who, duplex.PeerInfo)
        assert_type(outcome.result(), int)
    assert_type(await remote.add.with_options(timeout=2)(1), int)
    async with remote.ticks.with_options(overflow="drop_oldest", timeout=None).open(2) as ticks:
        assert_type(await ticks.receive(), int)
    async with remote.ticks.with_options(resume=True).open(2) as resumed:
        assert_type(await resumed.receive(), int)
    async with link.service(Doubled).ticks.open(2) as ticks:
        assert_type(await ticks.receive(), int)

    await remote.add("one")  # refused
    remote.add.gather("one")  # refused
    await remote.add(1, c=2)  # refused
    await remote.nothing()  # refused
    async for tick in remote.ticks(2):  # refused
        assert tick
    await remote.ticks(2)  # refused
    await remote.total([1, 2])  # refused
    remote.ticks.open("two")  # refused
    remote.add.with_options(timout=1)  # refused
    remote.ticks.with_options(timeout="1")  # refused
    remote.ticks.with_options(overflow="sometimes")  # refused


async def protocol(peer: duplex.Peer, link: duplex.Link) -> None:
    remote: Declared = peer.service(Declared)
    assert_type(link.service(Declared), Declared)
    assert_type(await remote.add(1), int)
    async with remote.ticks.open(2) as ticks:
        assert_type(await ticks.receive(), int)
    await remote.add("one")  # refused
    async for tick in remote.ticks(2):  # refused
        assert tick


async def by_name(peer: duplex.Peer, options: duplex.CallOptions) -> None:
    remote = peer.service("ticker").with_options(timeout=1, metadata={"user": "ada"})
    assert_type(await remote.add(1), Any)
    await remote.add.with_options(**options)(1)
    async with remote.ticks.open(2) as ticks:
        async for tick in ticks:
            assert tick
    async for who, outcome in remote.add.gather(1):
        assert_type(who, duplex.PeerInfo)
        assert_type(outcome.result(), Any)
    remote.with_options(timout=1)  # refused
    remote.add.with_options(timout=1)  # refused
    remote.add.with_options(codec=3)  # refused
