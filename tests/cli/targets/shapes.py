"""Types with fields, members and bounds, and streams and arguments of bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, TypedDict

from msgspec import Meta

import duplex


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Point:
    """A place."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Area(TypedDict, total=False):
    names: dict[str, Annotated[float, Meta(gt=0)]] | None
    corners: tuple[Point, Point]


@duplex.rpc
async def draw(p: Point, c: Color = Color.RED, n: Annotated[int, Meta(ge=0, lt=10)] = 3) -> Point:
    """Draw a point."""
    return Point(n * p.x, p.y, [c.value])


@duplex.rpc
async def cover(area: Area) -> None:
    """Cover an area."""


@duplex.rpc
async def size(data: bytes, note: str = "") -> int:
    """Return how many bytes there are."""
    return len(data) + len(note)


@duplex.rpc
async def count(chunks: duplex.ReceiveChannel[bytes]) -> list[int]:
    """Return how many bytes there are, and their sum."""
    data = b"".join([chunk async for chunk in chunks])
    return [len(data), sum(data)]
