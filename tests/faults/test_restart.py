"""A server is restarted under calls; ``python -m tests.faults`` does it fifty times."""

from __future__ import annotations

import pytest

from tests.faults.fault_restart import restarts

pytestmark = pytest.mark.slow


async def test_calls_go_on_after_restarts() -> None:
    (await restarts(5)).assert_good()
