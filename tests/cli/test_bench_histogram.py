"""Percentiles of the histogram are within the error that it promises, whatever is recorded."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex.cli._histogram import PERCENTILES, RELATIVE_ERROR, Histogram

#: From nothing to some 30 years.
durations = st.one_of(
    st.floats(0, 1e-6), st.floats(0, 1), st.floats(0, 1e9), st.integers(0, 2**20).map(lambda n: n / 1e9)
)
#: A nanosecond, to which durations are cut, and half of one that a float may be off.
GRAIN = 1.5e-9


def recorded(values: list[float]) -> Histogram:
    """A histogram of values."""
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.lists(durations, min_size=1), st.one_of(st.floats(0, 1), st.sampled_from([*PERCENTILES.values()])))
def test_percentiles_are_within_the_error(values: list[float], part: float) -> None:
    exact = sorted(values)[max(1, math.ceil(part * len(values) - 1e-6)) - 1]
    assert abs(recorded(values).percentile(part) - exact) <= exact * RELATIVE_ERROR + GRAIN


@given(st.lists(durations, min_size=1))
def test_the_ends_and_the_mean_are_exact_and_everything_is_in_order(values: list[float]) -> None:
    histogram = recorded(values)
    assert histogram.minimum == pytest.approx(min(values), rel=1e-12, abs=GRAIN)
    assert histogram.maximum == pytest.approx(max(values), rel=1e-12, abs=GRAIN)
    assert histogram.mean == pytest.approx(sum(values) / len(values), rel=1e-12, abs=GRAIN)
    summary = histogram.summary()
    mean = summary.pop("mean")
    assert list(summary.values()) == sorted(summary.values())
    assert summary["min"] <= mean <= summary["max"]


@given(st.lists(durations))
def test_it_survives_json(values: list[float]) -> None:
    histogram = recorded(values)
    again = Histogram.from_plain(json.loads(json.dumps(histogram.to_plain())))
    assert again.summary() == histogram.summary()
    assert list(again.buckets()) == list(histogram.buckets())


@given(st.lists(durations, min_size=1))
def test_buckets_are_narrow_and_do_not_overlap(values: list[float]) -> None:
    end = 0
    for lower, width, count in recorded(values).buckets():
        assert lower >= end
        assert width == 1 or width <= lower / 128
        assert count > 0
        end = lower + width


def test_memory_does_not_grow_with_what_is_recorded() -> None:
    histogram = recorded([1.001**n for n in range(-20_000, 20_000)])
    assert len(list(histogram.buckets())) < 64 * 128


def test_an_empty_one_is_all_zeros() -> None:
    assert set(Histogram().summary().values()) == {0.0}


def test_a_negative_duration_counts_as_none() -> None:
    assert recorded([-1.0]).summary()["max"] == 0.0


@pytest.mark.parametrize(
    "change",
    [{"unit": "ms"}, {"bits": 7}, {"count": 3}],
    ids=["another unit", "other buckets", "a wrong sum"],
)
def test_what_is_no_such_histogram_is_refused(change: dict[str, object]) -> None:
    plain = recorded([1.0, 2.0]).to_plain()
    with pytest.raises(ValueError, match="a histogram"):
        Histogram.from_plain({**plain, **change})
