"""A typed client without generated code: a Protocol class says what the service looks like.

A type checker knows the arguments and results of ``remote``, and results are decoded as the annotations say:
the caller gets a ``Point``, not a dict. The class of a service itself serves as well as a Protocol.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import trio

import duplex


@dataclasses.dataclass
class Point:
    """A point in the plane."""

    x: float
    y: float


class Geometry(Protocol):
    """What a caller knows of the service ``geometry``."""

    async def middle(self, a: Point, b: Point) -> Point:
        """Return the point between two others."""

    async def hull(self, points: list[Point]) -> tuple[Point, Point]:
        """Return the lower left and the upper right corner around some points."""


class GeometryService:
    """The service; that it fits the Protocol is checked below, at the price of nothing."""

    @duplex.rpc
    async def middle(self, a: Point, b: Point) -> Point:
        """Return the point between two others."""
        return Point((a.x + b.x) / 2, (a.y + b.y) / 2)

    @duplex.rpc
    async def hull(self, points: list[Point]) -> tuple[Point, Point]:
        """Return the lower left and the upper right corner around some points."""
        xs, ys = [point.x for point in points], [point.y for point in points]
        return Point(min(xs), min(ys)), Point(max(xs), max(ys))


async def furthest(geometry: Geometry) -> float:
    """Take the service or a proxy for it: callers and tests need not know which."""
    low, high = await geometry.hull([Point(1, 5), Point(4, 1)])
    return max(high.x - low.x, high.y - low.y)


async def main() -> None:
    service = GeometryService()
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        server.expose(service)  # as "geometry"
        await client.connect(await server.bind("tcp://127.0.0.1:*"))

        remote = client.service(Geometry)  # mypy: Geometry
        point = await remote.middle(Point(0, 0), Point(4, 2))  # mypy: Point
        print(point, type(point).__name__)

        print("remote:", await furthest(remote))
        print("local:", await furthest(service))


if __name__ == "__main__":
    trio.run(main)
