"""What a handler received and passes on is what it received, whether it knows the types or not."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

import duplex
from tests.engine.helpers import linked


@dataclass
class Order:
    item: str
    count: int = 1
    currency: str = "EUR"


@dataclass
class Booking:
    item: str
    count: int = 1
    currency: str = "USD"


back = duplex.Service("back")


@back.rpc
async def take(order: Booking) -> str:
    return f"{order.count} x {order.item} in {order.currency}"


@back.rpc
async def mirror(value: Any) -> Any:
    return value


class Gateway:
    """Passes on whatever comes."""

    def __init__(self, behind: duplex.ServiceProxy) -> None:
        self._behind = behind

    @duplex.rpc
    async def order(self, order: Order) -> Any:
        return await self._behind.take(order)

    @duplex.rpc
    async def orders(self, orders: duplex.ReceiveChannel[Order]) -> AsyncIterator[Any]:
        async for order in orders:
            yield [await self._behind.take(order), order]

    @duplex.rpc
    async def typed(self, at: dt.datetime, price: float) -> Any:
        return await self._behind.mirror([at, price])

    @duplex.rpc
    async def untyped(self, value: Any) -> Any:
        return await self._behind.mirror(value)


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_defaults_are_passed_on(codec: str) -> None:
    async with linked(back) as behind, duplex.open_peer() as front:
        front.expose(Gateway(behind.service("back").with_options(codec=codec)), name="gate")
        async with duplex.open_peer() as client:
            await client.connect(await front.bind("memory://*"))
            gate = client.service("gate").with_options(codec=codec)
            assert await gate.order({"item": "tea"}) == "1 x tea in EUR"
            async with gate.orders.open() as call:
                await call.send({"item": "tea", "count": 2})
                assert await call.receive() == [
                    "2 x tea in EUR",
                    {"item": "tea", "count": 2, "currency": "EUR"},
                ]


async def test_times_and_numbers_are_passed_on() -> None:
    at = dt.datetime(2024, 1, 2, 3, 4, 5, 678)
    async with linked(back) as behind, duplex.open_peer() as front:
        front.expose(Gateway(behind.service("back")), name="gate")
        async with duplex.open_peer() as client:
            await client.connect(await front.bind("memory://*"))
            gate = client.service("gate")
            assert await gate.typed(at, -math.inf) == [at, -math.inf]
            assert await gate.typed(at.isoformat(), 1) == [at, 1.0]
            assert await gate.untyped({"at": [at], 1: True}) == {"at": [at], 1: True}
            with pytest.raises(
                duplex.EncodeError, match=r"^argument 1: NaN and the infinities cannot travel in json"
            ):
                await gate.untyped.with_options(codec="json")([math.nan])
