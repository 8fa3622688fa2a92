"""The payloads and the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from benchmarks.scenarios import LARGE, SMALL, Count, Laps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What ``perf_counter`` returns, one after the other."""
    times: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: times.pop(0))
    yield times
    assert times == []


def test_payload_sizes() -> None:
    assert 60 <= len(msgspec.msgpack.encode(SMALL)) <= 68
    assert len(LARGE) == 1024 * 1024


def test_laps_begin_after_the_warm_up(clock: list[float]) -> None:
    clock[:] = [100, 109, 111, 113, 116, 141]
    laps = Laps(40)  # warm-up until 110, end at 140
    counted = []
    while laps.running:
        laps.lap()
        counted.append(len(clock))
    assert len(counted) == 5
    assert laps.median == 3e6  # of the laps 2, 3 and 25; those that began before 110 do not count
    assert laps.megabytes == pytest.approx(len(LARGE) / 10 / 1e6)


def test_one_lap_always_counts(clock: list[float]) -> None:
    clock[:] = [0, 90, 180]
    laps = Laps(40)
    while laps.running:
        laps.lap()
    assert laps.median == 90e6


def test_count_begins_after_the_warm_up(clock: list[float]) -> None:
    clock[:] = [100, 105, 112, 120, 130, 142]
    count = Count(40)
    asked = 0
    while count.more(10):
        asked += 1
    assert asked == 4
    assert count.per_second == 1  # 30 between 112 and 142


def test_one_count_always_counts(clock: list[float]) -> None:
    clock[:] = [0, 100, 200]
    count = Count(40)
    while count.more():
        pass
    assert count.per_second == 0.01
