"""``memory:`` keeps the contract, alone and shared."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

import duplex
from duplex_services.store import Store, Unavailable, last_writer_wins, open_store
from duplex_services.store.testing import CHECKS, Faults, check_store

NEEDS_FAULT = {name for name in CHECKS if name.partition("_")[0] in Faults.__struct_fields__}


@pytest.fixture
async def kept() -> AsyncIterator[Store]:
    """Keeps the store of that name, whoever else opens and closes it."""
    async with open_store("memory:checked") as store:
        yield store


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NEEDS_FAULT])
async def test_check(name: str, kept: Store, autojump_clock: trio.testing.MockClock) -> None:
    (result,) = await check_store(lambda **options: open_store("memory:checked", **options), only=[name])
    assert (result.name, result.left_out) == (name, "")
    assert (await kept.list()).entries == (), "a check tidies up"


async def test_checks_that_need_a_fault_are_left_out(kept: Store) -> None:
    results = await check_store(
        lambda **options: open_store("memory:checked", **options), only=["basic", "stall_settles"]
    )
    assert [(result.name, result.left_out) for result in results] == [
        ("basic", ""),
        ("stall_settles", "nobody said how to stall this store"),
    ]


async def test_there_is_no_such_check() -> None:
    with pytest.raises(ValueError, match="no checks: basics; there are basic, keys"):
        await check_store(lambda **options: open_store("memory:", **options), only=["basics"])


async def test_a_store_without_a_name_is_ones_own() -> None:
    async with open_store("memory:") as one, open_store("memory:") as two:
        await one.commit({"a": b""}, when=last_writer_wins)
        assert await two.get("a") is None


async def test_a_name_is_forgotten_with_its_last_user() -> None:
    async with open_store("memory:short") as one:
        async with open_store("memory:short") as two:
            await one.commit({"a": b"1"}, when=last_writer_wins)
        entry = await one.get("a")
        assert entry is not None
    with pytest.raises(Unavailable, match="closed"):
        await two.commit({"a": b""}, when=last_writer_wins)
    async with open_store("memory:short") as three:
        assert await three.get("a") is None


@pytest.mark.parametrize("url", ["memory://host", "memory:///a/b", "memory:a/b", "memory:a?x=1"])
async def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(duplex.ConfigurationError):
        async with open_store(url):
            pass
