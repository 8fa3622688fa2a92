"""The payloads and the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from benchmarks._clocks import Count, Laps, Stopwatch, percentile
from benchmarks._payloads import SIZES, SMALL, some_bytes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What ``perf_counter`` returns, one after the other."""
    times: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: times.pop(0))
    yield times
    assert times == []


def test_payload_sizes() -> None:
    assert 60 <= len(msgspec.msgpack.encode(SMALL)) <= 68
    assert {name: len(some_bytes(size)) for name, size in list(SIZES.items())[:3]} == {
        "1KiB": 1024,
        "64KiB": 65_536,
        "1MiB": 1_048_576,
    }
    assert len(some_bytes(100)) == 100


def test_laps_begin_after_the_warm_up(clock: list[float]) -> None:
    clock[:] = [100, 109, 111, 113, 116, 141]
    laps = Laps(40)  # warm-up until 110, end at 140
    counted = []
    while laps.running:
        laps.lap()
        counted.append(len(clock))
    assert len(counted) == 5
    assert laps.median == 3e6  # of the laps 2, 3 and 25; those that began before 110 do not count
    assert laps.mean == 10
    assert laps.percentile(99) == 25e6


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


def test_of_what_was_under_way_when_counting_began_a_part_is_counted(clock: list[float]) -> None:
    clock[:] = [100, 110, 120, 145]
    count = Count(40)
    assert count.more(10, 100)
    assert count.more(10, 100)  # begun at 100, counted from 110 on, done at 120
    assert not count.more(25, 120)
    assert count.per_second == pytest.approx((5 + 25) / 35)


def test_one_count_always_counts(clock: list[float]) -> None:
    clock[:] = [0, 100, 200]
    count = Count(40)
    while count.more():
        pass
    assert count.per_second == 0.01


def test_stopwatch(clock: list[float]) -> None:
    clock[:] = [100, 130, 140, 145]
    watch = Stopwatch(40)
    assert watch.more(64)
    assert not watch.more(64)
    assert watch.elapsed == 45


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 5), (51, 6), (90, 9), (99, 10), (100, 10)])
def test_percentile(percent: float, value: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], percent) == value
