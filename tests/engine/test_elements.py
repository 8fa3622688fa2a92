"""Messages of too many elements are refused, in every manner in which values travel, and the link lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

import duplex
from duplex import Limits
from tests.engine.helpers import linked

FEW: Final[dict[str, Any]] = {"limits": Limits(max_elements=65_536)}
MORE: Final[dict[str, Any]] = {"limits": Limits(max_elements=2_000_000)}
#: More elements than a peer takes that was told to take few, and than one takes that was told nothing.
SOME: Final = [0] * 70_000
MANY: Final = [0] * 600_000

service = duplex.Service("numbers")


@service.rpc
async def count(numbers: list[int]) -> int:
    return len(numbers)


@service.rpc
async def count_any(numbers: Any) -> int:
    return len(numbers)


@service.rpc(inline=True)
def count_inline(numbers: list[int]) -> int:
    return len(numbers)


@service.rpc
async def count_and_tell(numbers: list[int], tell: duplex.Callback[[int], None]) -> None:
    await tell(len(numbers))


@service.rpc
async def make(size: int) -> list[int]:
    return [0] * size


@service.rpc
async def count_each(lists: duplex.ReceiveChannel[list[int]]) -> AsyncIterator[int]:
    async for numbers in lists:
        yield len(numbers)


@pytest.mark.parametrize("codec", ["msgpack", "json"])
@pytest.mark.parametrize(("options", "numbers"), [(FEW, SOME), ({}, MANY)])
async def test_arguments(codec: str, options: dict[str, Any], numbers: list[int]) -> None:
    async with linked(service, server=options) as pair:
        remote = pair.service("numbers").with_options(codec=codec)
        for method in (remote.count, remote.count_any, remote.count_inline):
            with pytest.raises(duplex.InvalidArgument, match=r"holds more than \d+ elements.*max_elements"):
                await method(numbers)
            with pytest.raises(duplex.InvalidArgument, match=r"holds more than \d+ elements.*max_elements"):
                await method.with_options(idempotency_key="key")(numbers)
            assert await method(numbers[:65_000]) == 65_000
        assert len(pair.client.links) == 1


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_a_hundred_thousand_numbers_are_served_by_default(codec: str) -> None:
    async with linked(service) as pair:
        remote = pair.service("numbers").with_options(codec=codec)
        assert await remote.count([0] * 100_000) == 100_000
        assert len(await remote.make(100_000)) == 100_000
        with pytest.raises(duplex.InvalidArgument, match="holds more than 131072 elements"):
            await remote.count(SOME * 2)


async def test_arguments_beside_a_callback() -> None:
    told: list[int] = []
    async with linked(service, server=FEW) as pair:
        with pytest.raises(duplex.InvalidArgument, match="holds more than 65536 elements"):
            await pair.service("numbers").count_and_tell(SOME, told.append)
        await pair.service("numbers").count_and_tell(SOME[:65_000], told.append)
    assert told == [65_000]


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_a_higher_limit(codec: str) -> None:
    async with linked(service, server=MORE) as pair:
        remote = pair.service("numbers").with_options(codec=codec)
        assert await remote.count(MANY) == len(MANY)
        assert await remote.count_any(MANY) == len(MANY)
        assert await remote.count.with_options(idempotency_key="key")(MANY) == len(MANY)


async def test_results() -> None:
    async with linked(service, client=FEW) as pair:
        remote = pair.service("numbers")
        with pytest.raises(duplex.Internal, match="holds more than 65536 elements"):
            await remote.make(70_000)
        assert len(await remote.make(65_000)) == 65_000


async def test_items() -> None:
    async with linked(service, server=FEW) as pair:
        async with pair.service("numbers").count_each.open() as call:
            await call.send(SOME[:65_000])
            assert await call.receive() == 65_000
            await call.send(SOME)
            with pytest.raises(duplex.RPCError, match="holds more than 65536 elements"):
                await call.receive()
        assert await pair.service("numbers").count([1]) == 1
