"""A peer whose event loop is blocked is slow, not lost."""

from __future__ import annotations

import pytest

from tests.faults.checks import KEEPALIVE
from tests.faults.fault_blocked import blocked

pytestmark = pytest.mark.slow


async def test_blocked_for_many_times_the_timeout() -> None:
    (await blocked("server", 8, KEEPALIVE)).assert_good()


async def test_blocked_under_a_flood() -> None:
    (await blocked("client", 3, KEEPALIVE, flood=20_000)).assert_good()
