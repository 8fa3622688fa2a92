"""The pauses before something is tried again."""

from __future__ import annotations

import pytest

from duplex._backoff import pause_after
from duplex._config import Reconnect

PAUSES = Reconnect(initial=0.1, maximum=1.0, multiplier=2.0, jitter=0.2)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (6, 1.0), (5000, 1.0)]
)
def test_pauses_double_up_to_the_longest(failures: int, seconds: float) -> None:
    assert pause_after(failures, PAUSES, 0.5) == pytest.approx(seconds)
    assert pause_after(failures, PAUSES, 0.0) == pytest.approx(0.8 * seconds)
    assert pause_after(failures, PAUSES, 1.0) == pytest.approx(min(1.2 * seconds, 1.0))


def test_the_steepest_policy_does_not_overflow() -> None:
    steep = Reconnect(initial=1.0, maximum=60.0, multiplier=1000, jitter=0)
    assert [pause_after(failures, steep, 0.9) for failures in (1, 2, 10_000)] == [1.0, 60.0, 60.0]
