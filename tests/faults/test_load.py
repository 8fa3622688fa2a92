"""More than a reader, a link or a process takes; ``python -m tests.faults`` has the large numbers."""

from __future__ import annotations

import pytest

from tests.faults.checks import SIDES
from tests.faults.fault_load import abandoned, abandoned_by_death, flood, slow_reader

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("reader", SIDES)
async def test_slow_reader(reader: str) -> None:
    (await slow_reader(reader, 2)).assert_good()


@pytest.mark.parametrize(
    ("way", "caller"), [("notify", "client"), ("unary", "server"), ("send", "client"), ("receive", "server")]
)
async def test_flood(way: str, caller: str) -> None:
    (await flood(way, caller, 20_000)).assert_good()


async def test_abandoned_channels() -> None:
    (await abandoned(2000)).assert_good()


async def test_channels_abandoned_by_death() -> None:
    (await abandoned_by_death(500, 2)).assert_good()
