"""One side is killed, or stopped and continued, while calls of all kinds are under way."""

from __future__ import annotations

import signal

import pytest

from tests.faults.checks import SIDES
from tests.faults.fault_signals import SIGNALS, kill_or_stop
from tests.faults.loads import KINDS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("side", SIDES)
async def test_side_is_lost(side: str, number: signal.Signals) -> None:
    report = await kill_or_stop(side, number, list(KINDS))
    report.assert_good()
