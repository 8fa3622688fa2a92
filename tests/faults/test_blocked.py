"""A peer whose event loop is blocked is slow, not lost."""

from __future__ import annotations

import pytest

from tests.faults.checks import KEEPALIVE, SIDES
from tests.faults.fault_blocked import blocked

pytestmark = pytest.mark.slow


async def test_blocked_for_many_times_the_timeout() -> None:
    (await blocked("server", 8, KEEPALIVE)).assert_good()


@pytest.mark.parametrize("side", SIDES)
async def test_blocked_under_a_flood(side: str) -> None:
    (await blocked(side, 3, KEEPALIVE, flood=20_000)).assert_good()
