"""``duplex.reflection``: a caller that knows nothing can learn everything."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

import duplex
from duplex.builtin import ServiceSummary, _reflection
from duplex.engine._handler import Flavor
from duplex.service import MethodDescription, MethodSpec, ServiceDescription, describe_method
from tests.engine.helpers import linked


@dataclasses.dataclass
class Point:
    x: int
    y: int


shapes = duplex.Service("shapes", version="1.2.3", description="Points and lines.")


@shapes.rpc(idempotent=True)
async def middle(a: Point, b: Point = Point(0, 0)) -> Point:  # noqa: B008
    """Return the point between two."""
    return a


@shapes.rpc
async def line(points: duplex.ReceiveChannel[Point]) -> AsyncIterator[Point]:
    """Stream points along a line."""
    async for point in points:
        yield point


@shapes.rpc(deprecated="use line")
def old(visit: duplex.Callback[[int], None]) -> None:
    pass


async def test_list_of_services(endpoint: str) -> None:
    async with linked(shapes, endpoint=endpoint) as pair:
        found = await pair.service("duplex.reflection").services()
        assert [entry["name"] for entry in found] == [
            "duplex.health",
            "duplex.reflection",
            "duplex.stats",
            "shapes",
        ]
        assert found[3] == {
            "name": "shapes",
            "version": "1.2.3",
            "description": "Points and lines.",
            "methods": ["line", "middle", "old"],
        }
        assert all(entry["description"] and entry["methods"] for entry in found)


async def test_late_services_are_listed() -> None:
    async with linked() as pair:
        reflection = pair.service("duplex.reflection")
        assert len(await reflection.services()) == 3
        pair.server.add_service(shapes)
        assert len(await reflection.services()) == 4


async def test_description_of_a_service() -> None:
    async with linked(shapes) as pair:
        described = await pair.service("duplex.reflection").describe("shapes")
        assert described["name"] == "shapes"
        assert described["version"] == "1.2.3"
        methods = {method["name"]: method for method in described["methods"]}
        assert methods.keys() == {"middle", "line", "old"}
        assert methods["middle"]["kind"] == "unary"
        assert methods["line"]["kind"] == "bidirectional"
        assert "Return the point between two." in str(methods["middle"])
        assert "use line" in str(methods["old"])


async def test_description_of_a_method() -> None:
    async with linked(shapes) as pair:
        described = await pair.service("duplex.reflection").describe("shapes", method="middle")
        assert [method["name"] for method in described["methods"]] == ["middle"]


async def test_description_of_everything_builtin() -> None:
    async with linked(shapes) as pair:
        reflection = pair.service("duplex.reflection")
        for entry in await reflection.services():
            described = await reflection.describe(entry["name"])
            assert sorted(method["name"] for method in described["methods"]) == entry["methods"]


async def test_description_of_what_is_not_there() -> None:
    async with linked(shapes) as pair:
        reflection = pair.service("duplex.reflection")
        with pytest.raises(duplex.NotFound, match=r"'other'.*shapes"):
            await reflection.describe("other")
        with pytest.raises(duplex.NotFound, match=r"no method 'gone'.*line, middle, old"):
            await reflection.describe("shapes", "gone")


async def test_answers_have_the_types_that_they_are_declared_with() -> None:
    """A client that knows the types gets them."""
    from typing import Protocol

    class Reflection(Protocol):
        async def services(self) -> list[ServiceSummary]: ...

        async def describe(self, service: str, method: str | None = None) -> ServiceDescription: ...

    async with linked(shapes) as pair:
        remote = pair.client.service(Reflection, name="duplex.reflection")
        assert (await remote.services())[3].name == "shapes"
        assert (await remote.describe("shapes")).version == "1.2.3"


async def test_switched_off() -> None:
    async with linked(shapes, server={"reflection": False}) as pair:
        assert "duplex.reflection" not in pair.link.services
        with pytest.raises(duplex.Unimplemented):
            await pair.service("duplex.reflection").services()
        assert await pair.service("duplex.health").check("shapes") == "SERVING"


async def test_what_is_asked_again_is_not_described_again(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []

    def describe(spec: MethodSpec) -> MethodDescription:
        described.append(spec.method)
        return describe_method(spec)

    monkeypatch.setattr(_reflection, "describe_method", describe)
    async with linked(shapes) as pair:
        reflection = pair.service("duplex.reflection")
        for _ in range(3):
            assert len((await reflection.describe("shapes"))["methods"]) == 3
            assert len((await reflection.describe("shapes", "line"))["methods"]) == 1
        assert described == ["shapes.middle", "shapes.line", "shapes.old"]


async def test_answers_take_turns() -> None:
    """They may be long, and what is run inline runs until its message has been acted on."""
    async with linked(shapes) as pair:
        own = [
            handler for name, handler in pair.server._inside.services.handlers.items() if "reflection" in name
        ]
        assert len(own) == 2
        assert not any(handler.inline for handler in own)
        assert all(handler.flavor is Flavor.ASYNC for handler in own)
