"""Targets: expressions over the figures of a run."""

from __future__ import annotations

import pytest

from benchmarks._report import targets_table
from benchmarks._results import Outcome, Results
from benchmarks._targets import TARGETS, Best, Exponent, Of, Quotient, Target
from benchmarks.peers import PEERS
from benchmarks.scenarios import FIGURES


def test_quotient_of_figures(results: Results) -> None:
    quotient = Quotient(Of("latency.p50"), Of("latency.p50", "grpc"))
    assert quotient.value(results) == 0.25
    assert str(quotient) == "latency.p50 / grpc latency.p50"
    assert Target("x", quotient, "<=", 0.25).state(results) == (0.25, "met")
    assert Target("x", quotient, "<=", 0.24).state(results) == (0.25, "NOT MET")
    assert Target("x", quotient, ">=", 0.25).state(results) == (0.25, "met")
    assert Target("x", quotient, ">=", 0.26).state(results) == (0.25, "NOT MET")


def test_what_is_missing_is_not_measured(results: Results) -> None:
    target = Target("x", Quotient(Of("download.rate"), Of("download.rate", "pyzmq")), ">=", 1)
    assert target.state(results) == (None, "not measured")


def test_best_leaves_floors_out_and_wants_a_choice(results: Results) -> None:
    results.peers += ["trio-pyzmq", "http", "nats"]
    results.add("pyzmq", "download", Outcome({"rate": 1e9}))
    results.add("trio-pyzmq", "download", Outcome({"rate": 1e9}))
    results.add("http", "download", Outcome({"rate": 9_000.0}))
    assert Best("download.rate").value(results) is None
    results.add("nats", "download", Outcome({"rate": 5_000.0}))
    assert Best("download.rate").value(results) == 9_000
    results.add("http", "latency", Outcome({"p50": 300.0}))
    results.add("nats", "latency", Outcome({"p50": 200.0}))
    assert Best("latency.p50").value(results) == 200


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.title)
def test_targets_speak_of_what_is_measured(target: Target) -> None:
    def check(expression: object) -> None:
        match expression:
            case Of(name, peer):
                assert name in FIGURES
                assert peer in PEERS
            case Best(name):
                assert name in FIGURES
            case Quotient(upper, lower):
                check(upper)
                check(lower)
            case Exponent(family):
                assert any(name.startswith(f"{family}-") for name in FIGURES)
            case _:
                pytest.fail(f"{expression} is of no known kind")

    check(target.expression)


def test_table_tells_every_target(results: Results) -> None:
    table = targets_table(results)
    assert len(table.rows) == len(TARGETS)
    rows = {row[1]: row for row in table.rows}
    assert list(rows["latency.p50 / grpc latency.p50"][2:]) == ["≤ 0.4 ×", "0.25 ×", "0.227 to 0.279", "met"]
    assert list(rows["memory.link"][2:]) == ["≤ 40.0 KiB", "–", "", "not measured"]
