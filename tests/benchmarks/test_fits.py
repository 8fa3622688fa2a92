"""Fitted exponents."""

from __future__ import annotations

import pytest

from benchmarks._fits import FAMILIES, exponent, fit, points
from benchmarks._results import Outcome, Results
from benchmarks.scenarios import FIGURES


@pytest.mark.parametrize("power", [-1.0, -0.03, 0.0, 0.5, 1.0, 2.0])
def test_a_power_is_found(power: float) -> None:
    found = fit([(x, 7 * x**power) for x in (1, 10, 100, 1000)])
    assert found is not None
    assert found.exponent == pytest.approx(power, abs=1e-9)
    assert found.factor == pytest.approx(7)
    assert found.explained == pytest.approx(1)


def test_scatter_lowers_what_is_explained() -> None:
    found = fit([(1, 1), (10, 20), (100, 50), (1000, 2000)])
    assert found is not None
    assert 0.9 < found.exponent < 1.1
    assert 0.9 < found.explained < 0.99


@pytest.mark.parametrize("values", [[], [(1, 1), (10, 2)], [(1, 0), (10, 1), (100, 2)], [(5, 1)] * 3])
def test_too_little_to_fit(values: list[tuple[float, float]]) -> None:
    assert fit(values) is None


def test_points_of_a_family() -> None:
    results = Results(["duplex"], ["scaling-links"])
    for decade in (1, 10, 100, 1000):
        outcome = Outcome({f"rate-{decade}": 100.0, f"memory-{decade}": 30.0 * decade})
        results.add("duplex", "scaling-links", outcome)
    assert points(results, "duplex", "scaling-links.memory") == [
        (1, 30),
        (10, 300),
        (100, 3000),
        (1000, 30000),
    ]
    assert exponent(results, "duplex", "scaling-links.memory") == pytest.approx(1)
    assert exponent(results, "duplex", "scaling-links.rate") == pytest.approx(0)
    assert exponent(results, "grpc", "scaling-links.rate") is None


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_measured(family: str) -> None:
    assert len([name for name in FIGURES if name.startswith(f"{family}-")]) >= 4
