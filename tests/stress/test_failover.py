"""The failover run, in small: what it tells, and that nothing fails."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.machine import within
from tests.stress.failover import Phase, run


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_call_fails_and_none_runs_twice() -> None:
    lines: list[str] = []
    assert await run(rate=50, seconds=1.0, patience=within(0.5), say=lines.append), "\n".join(lines)
    assert len(lines) == 8
    assert all(" 0 failed, 0 ran twice" in line for line in lines), "\n".join(lines)


def test_shares_are_compared_in_windows() -> None:
    answers = Counter({(second, name): 100 for second in range(40) for name in "ab"})
    assert Phase("", answers, serving=("a", "b"), since=0.0).uneven(40.0) == 0.0
    answers[15, "a"] += 600
    assert Phase("", answers, serving=("a", "b"), since=0.0).uneven(40.0) == pytest.approx(300 / 1300)
    answers[1, "b"] += 10_000
    assert Phase("", answers, serving=("a", "b"), since=0.0).uneven(40.0) == pytest.approx(300 / 1300), (
        "settling"
    )
    assert Phase("", answers, serving=("a", "b", "c"), since=0.0).uneven(40.0) == pytest.approx(1.0), (
        "c got none"
    )
