"""Invented results, for everything that computes with them."""

from __future__ import annotations

import pytest

from benchmarks._histogram import Histogram
from benchmarks._results import Conditions, Failure, Outcome, Results


@pytest.fixture
def how() -> Conditions:
    return Conditions(
        "2030-01-01T00:00:00+00:00", "Abacus, 2 cores", "CPython 3.11.0", {"pyzmq": "27.0"}, 0.5, 3, 2.0
    )


@pytest.fixture
def results() -> Results:
    """Three peers in two scenarios: one failed in one, one is missing altogether."""
    results = Results(["duplex", "grpc", "pyzmq"], ["latency", "download"], {"nats": "it needs a broker"})
    for peer, scenario, name, figures in (
        ("duplex", "latency", "p50", (100, 120, 110)),
        ("duplex", "latency", "p99", (300, 300, 300)),
        ("duplex", "download", "rate", (60_000, 61_000, 62_000)),
        ("grpc", "latency", "p50", (440, 430, 450)),
        ("grpc", "download", "rate", (6_100, 6_000, 6_200)),
        ("pyzmq", "latency", "p50", (55, 55, 55)),
    ):
        for figure in figures:
            results.add(peer, scenario, Outcome({name: float(figure)}))
    results.failures.append(Failure("pyzmq", "download", "the server ended", "Traceback:\nOSError"))
    return results


@pytest.fixture
def latencies() -> Histogram:
    histogram = Histogram()
    for milliseconds in range(1, 101):
        histogram.record(milliseconds / 1e3)
    return histogram
