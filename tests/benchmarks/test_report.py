"""The report: what is computed from the figures, and how it looks."""

from __future__ import annotations

import json

import pytest

from benchmarks._report import (
    BIAS,
    Conditions,
    Failure,
    Results,
    conditions,
    json_report,
    number,
    table,
    text_report,
)

HOW = Conditions("Abacus, 2 cores, Linux 1", "CPython 3.11.0", {"pyzmq": "27.0"}, 0.5, 3, 2.0)


@pytest.fixture
def results() -> Results:
    results = Results(["duplex", "grpc", "pyzmq"], ["a", "b"])
    for peer, scenario, figures in (
        ("duplex", "a", (100, 120, 110)),
        ("duplex", "b", (60_000, 61_000, 62_000)),
        ("grpc", "a", (440, 430, 450)),
        ("grpc", "b", (6_100, 6_000, 6_200)),
        ("pyzmq", "a", (55, 55, 55)),
    ):
        for figure in figures:
            results.add(peer, scenario, float(figure))
    results.failures.append(Failure("pyzmq", "b", "the server ended", "Traceback:\nOSError"))
    return results


def test_medians_ratios_and_spread(results: Results) -> None:
    assert results.median("duplex", "a") == 110
    assert results.ratio("duplex", "a", "grpc") == 0.25
    assert results.ratio("duplex", "b", "grpc") == 10
    assert results.ratio("duplex", "b", "pyzmq") is None
    assert results.median("pyzmq", "b") is None
    assert results.spread("duplex", "a") == pytest.approx(20 / 110)
    assert results.spread("pyzmq", "b") is None


def test_text(results: Results) -> None:
    blocks = text_report(results, HOW).split("\n\n")
    assert blocks[1].splitlines() == [
        "peer     a µs  b calls/s",
        "------------------------",
        "duplex  110.0     61 000",
        "grpc    440.0      6 100",
        "pyzmq    55.0     failed",
    ]
    assert blocks[2].splitlines() == [
        "× grpc     a      b",
        "-------------------",
        "duplex  0.25  10.00",
        "pyzmq   0.12      –",
        "(a: below 1 is faster; the others: above 1)",
    ]
    assert blocks[3].splitlines()[2] == "duplex   2.00  –"
    assert blocks[4] == "FAILED: pyzmq in scenario b: the server ended\n    Traceback:\n    OSError"
    for part in (
        "3 interleaved repeats of 2 s",
        HOW.machine,
        HOW.python,
        "pyzmq 27.0",
        "0.50",
        "18% of the median (duplex a)",
        *BIAS,
    ):
        assert part in "\n".join(blocks[5:])


def test_scenarios_are_explained(results: Results) -> None:
    legend = text_report(results, HOW).split("\n\n")[0].splitlines()
    assert [line[:4] for line in legend] == ["a = ", "b = "]
    assert "lower is better" in legend[0]
    assert "higher is better" in legend[1]


def test_ratios_only_against_peers_that_ran() -> None:
    results = Results(["duplex"], ["a"])
    results.add("duplex", "a", 100.0)
    text = text_report(results, HOW)
    assert "× grpc" not in text
    assert "distance" not in text


def test_json(results: Results) -> None:
    report = json.loads(json.dumps(json_report(results, HOW)))
    assert report["figures"]["duplex"]["a"] == {
        "median": 110.0,
        "repeats": [100.0, 120.0, 110.0],
        "ratios": {"grpc": 0.25, "pyzmq": 2.0},
    }
    assert report["figures"]["pyzmq"]["b"] == {"median": None, "repeats": [], "ratios": {}}
    assert report["failures"][0]["stderr"] == "Traceback:\nOSError"
    assert report["scenarios"]["a"]["better"] == "lower"
    assert report["conditions"]["versions"] == {"pyzmq": "27.0"}
    assert report["bias"] == list(BIAS)


def test_conditions_of_this_machine() -> None:
    how = conditions(["duplex", "pyzmq", "some:other"], repeats=3, seconds=1.0)
    assert "cores" in how.machine
    assert {"duplex-rpc", "pyzmq", "trio", "msgspec"} <= set(how.versions)
    assert "grpcio" not in how.versions


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0"), (72.44, "72.4"), (1000.4, "1 000"), (1_234_567.0, "1 234 567")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_table_aligns() -> None:
    lines = table([["x", "long"], ["much longer", "1"]]).splitlines()
    assert lines == ["x            long", "-----------------", "much longer     1"]
