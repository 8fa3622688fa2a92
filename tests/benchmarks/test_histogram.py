"""The histogram of latencies, held against the exact percentiles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._clocks import percentile
from benchmarks._histogram import Histogram


@given(
    values=st.lists(st.floats(min_value=1e-8, max_value=1e4), min_size=1, max_size=200),
    percent=st.sampled_from([10.0, 50.0, 90.0, 99.0]),
)
def test_percentiles_are_right_to_a_128th(values: list[float], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    assert histogram.count == len(values)
    found = histogram.percentile(percent)
    if found is not None:
        assert percentile(values, percent) <= found * (1 + 1e-9)
        assert found <= percentile(values, percent) * (1 + 1 / 64)
    assert max(values) <= histogram.maximum * (1 + 1e-9)


def test_percentiles_that_few_values_cannot_tell(latencies: Histogram) -> None:
    assert latencies.percentile(50) == pytest.approx(0.05, rel=0.01)
    assert latencies.percentile(99) == pytest.approx(0.099, rel=0.01)
    assert latencies.percentile(99.9) is None
    assert Histogram().percentile(50) is None
    assert Histogram().maximum == 0


def test_adding_is_recording_both(latencies: Histogram) -> None:
    twice = Histogram()
    twice.add(latencies)
    twice.add(latencies)
    assert twice.count == 200
    assert twice.percentile(50) == latencies.percentile(50)
    assert twice.percentile(99.5) is not None


def test_json_and_back(latencies: Histogram) -> None:
    again = Histogram(json.loads(json.dumps(latencies.to_json())))
    assert list(again.curve()) == list(latencies.curve())
    assert list(again.curve())[-1] == (100, latencies.maximum)


def test_less_than_a_nanosecond_counts() -> None:
    histogram = Histogram()
    histogram.record(0)
    histogram.record(-1)
    assert histogram.count == 2
    assert histogram.maximum < 2e-9
