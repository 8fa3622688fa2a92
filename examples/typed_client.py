"""A typed client without generated code: a Protocol class says what the service looks like.

A type checker knows the arguments and results of ``remote``, and results are decoded as the annotations say:
the caller gets a ``Point``, not a dict. Plain ``async def`` methods are enough for calls that are awaited;
``duplex.Streaming`` and ``duplex.Unary`` give a method its ``open()``, ``with_options()`` and ``notify()`` too.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Never, Protocol

import trio

import duplex


@dataclasses.dataclass
class Point:
    """A point in the plane."""

    x: float
    y: float


class Geometry(Protocol):
    """What a caller knows of the service ``geometry``."""

    async def middle(self, a: Point, b: Point) -> Point: ...

    #: Arguments, items that are sent (never any), items that are received.
    walk: duplex.Streaming[[Point, Point, int], Never, Point]

    #: Arguments (none), items that are sent, the result.
    length: duplex.Streaming[[], Point, float]

    #: Arguments and result.
    distance: duplex.Unary[[Point, Point], float]


class GeometryService:
    """The service itself, which knows nothing of the Protocol."""

    @duplex.rpc
    async def middle(self, a: Point, b: Point) -> Point:
        """Return the point between two others."""
        return Point((a.x + b.x) / 2, (a.y + b.y) / 2)

    @duplex.rpc
    async def walk(self, start: Point, end: Point, steps: int) -> AsyncIterator[Point]:
        """Yield points from one to another."""
        for step in range(steps + 1):
            share = step / steps
            yield Point(start.x + share * (end.x - start.x), start.y + share * (end.y - start.y))

    @duplex.rpc
    async def length(self, path: duplex.ReceiveChannel[Point]) -> float:
        """Return the length of a path."""
        points = [point async for point in path]
        return sum([await self.distance(a, b) for a, b in itertools.pairwise(points)], 0.0)

    @duplex.rpc
    async def distance(self, a: Point, b: Point) -> float:
        """Return the distance between two points."""
        return float(((b.x - a.x) ** 2 + (b.y - a.y) ** 2) ** 0.5)


async def main() -> None:
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        server.expose(GeometryService())  # named after the class: "geometry"
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service(Geometry)

        start, end = Point(0, 0), Point(3, 4)
        point: Point = await remote.middle(start, end)
        print("middle:", point)

        async with remote.walk.open(start, end, 2) as points:
            async for point in points:
                print("walk:", point)

        async with remote.length.open() as path:
            for point in (start, end, start):
                await path.send(point)
            length: float = await path.result()
            print("length:", length)

        print("distance:", await remote.distance.with_options(timeout=5)(start, end))


if __name__ == "__main__":
    trio.run(main)
