"""Typed proxies: a Protocol, or the service's own class, says what results are."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any, Never, Protocol

import pytest

import duplex
from duplex._names import service_name_of
from tests.engine.helpers import collect, linked


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Geometry(Protocol):
    """What a caller knows of the service."""

    async def middle(self, a: Point, b: Point) -> Point: ...

    async def names(self) -> dict[str, list[Point]]: ...

    async def untyped(self, value: Any): ...  # type: ignore[no-untyped-def]

    def line(self, a: Point, count: int) -> AsyncIterator[Point]: ...

    def each(self, count: int) -> Iterator[Point]: ...

    async def pieces(self) -> list[Point]: ...

    def bare(self) -> AsyncIterator: ...  # type: ignore[type-arg]

    @duplex.rpc(name="renamed")
    async def local_name(self) -> Point: ...


class Declared(Protocol):
    """The same in attributes, which type what a plain method cannot: ``open`` and ``notify``."""

    middle: duplex.Unary[[Point, Point], Point]
    line: duplex.Streaming[[Point, int], Never, Point]
    total: duplex.Streaming[[], int, Point]
    quarrel: duplex.Streaming[[Point], int, Point]


class GeometryService:
    """The service itself."""

    @duplex.rpc
    async def middle(self, a: Point, b: Point) -> Point:
        return Point((a.x + b.x) // 2, (a.y + b.y) // 2)

    @duplex.rpc
    async def names(self) -> dict[str, list[Point]]:
        return {"origin": [Point(0, 0)]}

    @duplex.rpc
    async def untyped(self, value: Any) -> Any:
        return value

    @duplex.rpc
    async def line(self, a: Point, count: int) -> AsyncIterator[Point]:
        for number in range(count):
            yield Point(a.x + number, a.y)

    @duplex.rpc
    def each(self, count: int) -> Iterator[Point]:
        for number in range(count):
            yield Point(number, 0)

    @duplex.rpc
    async def pieces(self) -> list[Point]:
        return [Point(1, 1)]

    @duplex.rpc
    async def bare(self) -> AsyncIterator[Any]:
        yield {"x": 1}

    @duplex.rpc(name="renamed")
    async def local_name(self) -> Point:
        return Point(7, 7)

    @duplex.rpc
    async def total(self, numbers: duplex.ReceiveChannel[int]) -> Point:
        return Point(sum([number async for number in numbers]), 0)

    @duplex.rpc
    async def quarrel(self, channel: duplex.Channel[Point, int], start: Point) -> None:
        await channel.send(start)
        async for number in channel:
            await channel.send(Point(number, start.y))


class Liar:
    """Offers the same methods with other results."""

    service_name = "geometry"

    @duplex.rpc
    async def middle(self, a: Any, b: Any) -> Any:
        return {"x": 1, "y": "not a number"}

    @duplex.rpc
    async def names(self) -> Any:
        return [1]

    @duplex.rpc
    async def line(self, a: Any, count: int) -> AsyncIterator[Any]:
        yield {"x": 1, "y": 2}
        yield {"x": 1}
        yield {"x": 1, "y": 3}


async def test_protocol_types_the_results() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        remote = pair.client.service(Geometry)
        assert await remote.middle(Point(0, 0), Point(4, 2)) == Point(2, 1)
        assert await remote.names() == {"origin": [Point(0, 0)]}
        assert await remote.pieces() == [Point(1, 1)]
        assert await remote.untyped({"x": 1}) == {"x": 1}
        assert await remote.local_name() == Point(7, 7)
        streaming: Any = remote
        async with streaming.line.open(Point(1, 1), 2) as call:
            assert await collect(call) == [Point(1, 1), Point(2, 1)]
        async with streaming.each.open(2) as call:
            assert await collect(call) == [Point(0, 0), Point(1, 0)]
        async with streaming.bare.open() as call:
            assert await collect(call) == [{"x": 1}]
        async with streaming.middle.open(Point(0, 0), Point(2, 2)) as call:
            assert await call.result() == Point(1, 1)


async def test_the_class_itself_types_the_results() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        for remote in (pair.client.service(GeometryService), pair.link.service(GeometryService)):
            assert await remote.middle(Point(0, 0), Point(4, 2)) == Point(2, 1)
            assert await remote.local_name() == Point(7, 7)


async def test_a_channel_types_what_its_handler_sends() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        for remote in (pair.client.service(GeometryService), pair.client.service(Declared, name="geometry")):
            async with remote.quarrel.open(Point(1, 2)) as call:
                assert await call.receive() == Point(1, 2)
                await call.send(5)
                assert await call.receive() == Point(5, 2)
                await call.send_eof()
                assert await collect(call) == []


async def test_attributes_type_the_results() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        remote = pair.client.service(Declared, name="geometry")
        assert await remote.middle(Point(0, 0), Point(4, 2)) == Point(2, 1)
        await remote.middle.notify(Point(0, 0), Point(0, 0))
        assert await remote.middle.with_options(timeout=5)(Point(0, 0), Point(2, 2)) == Point(1, 1)
        async with remote.middle.open(Point(0, 0), Point(2, 2)) as call:
            assert await call.result() == Point(1, 1)
        async with remote.line.open(Point(1, 1), 2) as stream:
            assert [(point.x, point.y) async for point in stream] == [(1, 1), (2, 1)]
        async with remote.total.with_options(timeout=5).open() as adding:
            await adding.send(1)
            await adding.send(2)
            assert (await adding.result()).x == 3


async def test_another_name() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService(), name="shapes")
        await pair.settle()
        assert await pair.client.service(Geometry, name="shapes").pieces() == [Point(1, 1)]
        with pytest.raises(duplex.Unimplemented):
            await pair.client.service(Geometry).pieces()


async def test_lying_server() -> None:
    """A result of another type is the server's fault, and never reaches the application."""
    async with linked() as pair:
        pair.server.expose(Liar())
        await pair.settle()
        remote: Any = pair.client.service(Geometry)
        with pytest.raises(duplex.Internal, match=r"not of the expected type.*y") as caught:
            await remote.middle(Point(0, 0), Point(1, 1))
        assert caught.value.method == "geometry.middle"
        assert caught.value.peer == "server"
        with pytest.raises(duplex.Internal):
            await remote.names()
        async with remote.middle.open(Point(0, 0), Point(1, 1)) as call:
            with pytest.raises(duplex.Internal, match="not of the expected type"):
                await call.result()
        async with remote.line.open(Point(0, 0), 3) as call:
            assert await call.receive() == Point(1, 2)
            with pytest.raises(duplex.Internal, match="not of the expected type"):
                await call.receive()
            assert await call.receive() == Point(1, 3), "the stream itself is whole"


async def test_only_declared_methods() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        remote: Any = pair.client.service(Geometry)
        with pytest.raises(AttributeError, match="declares bare, each, line, local_name, middle"):
            remote.undeclared
        with pytest.raises(AttributeError):
            remote._private
        assert remote.middle is remote.middle


async def test_options_of_a_typed_proxy() -> None:
    async with linked() as pair:
        pair.server.expose(GeometryService())
        await pair.settle()
        plain: Any = pair.client.service(Geometry)
        remote = plain.with_options(timeout=5, metadata={"a": "b"})
        assert await remote.pieces() == [Point(1, 1)]
        assert await plain.pieces.with_options(timeout=1)() == [Point(1, 1)]
        with pytest.raises(AttributeError):
            remote.undeclared
        with pytest.raises(duplex.ConfigurationError):
            plain.with_options(retries=1)


async def test_class_without_methods() -> None:
    class Empty(Protocol):
        attribute: int

    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match="declares no methods"):
            peer.service(Empty)


async def test_annotation_that_cannot_be_resolved() -> None:
    class Broken(Protocol):
        async def method(self) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"Broken\.method.*Nowhere"):
            peer.service(Broken)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Calc", "calc"),
        ("CalcProtocol", "calc"),
        ("UserStoreService", "user_store"),
        ("HTTPServer", "httpserver"),
        ("Service", "service"),
        ("Protocol", "protocol"),
        ("Level2Cache", "level2_cache"),
    ],
)
def test_name_of_a_class(name: str, expected: str) -> None:
    assert service_name_of(type(name, (), {})) == expected
    assert service_name_of(type(name, (), {"service_name": "own.name"})) == "own.name"


async def test_attribute_that_cannot_be_resolved() -> None:
    class Broken(Protocol):
        method: duplex.Unary[[Nowhere], int]  # type: ignore[name-defined]  # noqa: F821

    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"Broken.*Nowhere"):
            peer.service(Broken)
