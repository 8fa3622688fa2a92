"""What is computed from figures, and files of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._histogram import Histogram
from benchmarks._results import BIAS, Conditions, Outcome, Results, conditions, from_json, load, to_json
from benchmarks.peers import ABILITIES, PEERS
from benchmarks.scenarios import FIGURES, SCENARIOS


def test_medians_ratios_and_spread(results: Results) -> None:
    assert results.median("duplex", "latency.p50") == 110
    assert results.ratio("duplex", "latency.p50", "grpc") == 0.25
    assert results.ratio("duplex", "download.rate", "grpc") == 10
    assert results.ratio("duplex", "download.rate", "pyzmq") is None
    assert results.median("pyzmq", "download.rate") is None
    assert results.spread("duplex", "latency.p50") == pytest.approx(20 / 110)
    assert results.spread("pyzmq", "download.rate") is None
    assert results.names == ["latency.p50", "latency.p99", "download.rate"]


def test_histograms_of_repeats_are_added(latencies: Histogram) -> None:
    results = Results(["duplex"], ["open-loop"])
    for _ in range(2):
        results.add("duplex", "open-loop", Outcome({}, {"1000": latencies.to_json()}))
    whole = results.histogram("duplex", "open-loop.1000")
    assert whole is not None
    assert whole.count == 200
    assert results.histogram("duplex", "open-loop.5000") is None


def test_percentiles_are_those_of_all_repeats_together(latencies: Histogram) -> None:
    """99.9 % of a hundred latencies mean nothing, of a thousand they do."""
    results = Results(["duplex"], ["open-loop"])
    for repeat in range(10):
        results.add("duplex", "open-loop", Outcome({"1000-p50": 1.0 + repeat}, {"1000": latencies.to_json()}))
    assert results.names == [
        "open-loop.1000-p50",
        "open-loop.1000-p90",
        "open-loop.1000-p99",
        "open-loop.1000-p99.9",
    ]
    assert results.median("duplex", "open-loop.1000-p50") == pytest.approx(50_000, rel=0.01)
    assert results.median("duplex", "open-loop.1000-p99.9") == pytest.approx(100_000, rel=0.01)
    assert results.median("duplex", "open-loop.1000-p99.99") is None
    assert results.spread("duplex", "open-loop.1000-p50") is not None


def test_one_repeat_by_itself(results: Results) -> None:
    assert results.repeats == 3
    alone = results.repeat(1)
    assert alone.median("duplex", "latency.p50") == 120
    assert alone.ratio("duplex", "latency.p50", "grpc") == pytest.approx(120 / 430)
    assert Results([], []).repeats == 0


def test_what_failed_once_has_no_figure(results: Results, how: Conditions) -> None:
    """The others would be of good repeats only; the file has them all the same."""
    results.add("pyzmq", "download", Outcome({"rate": 1.0}))
    assert results.median("pyzmq", "download.rate") is None
    assert not results.figures("pyzmq", "download.rate")
    assert to_json(results, how)["repeats"]["pyzmq"]["download.rate"] == [1.0]


def test_files_hold_everything(
    results: Results, how: Conditions, latencies: Histogram, tmp_path: Path
) -> None:
    results.add("duplex", "open-loop", Outcome({}, {"1000": latencies.to_json()}))
    report = to_json(results, how)
    assert report["medians"]["duplex"]["latency.p50"] == 110
    assert report["units"]["download.rate"] == "items/s"
    assert report["better"]["latency.p50"] == "lower"
    assert report["bias"] == list(BIAS)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    again, how_again = load(file)
    assert how_again == how
    assert to_json(again, how_again) == report
    assert again.figures("duplex", "latency.p50") == [100, 120, 110]
    assert again.missing == {"nats": "it needs a broker"}


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": 2}', "nonsense"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):
        load(file)


def test_results_of_another_format_are_refused(results: Results, how: Conditions) -> None:
    with pytest.raises(ValueError, match="format 2"):
        from_json({**to_json(results, how), "format": 1})


def test_conditions_of_this_machine() -> None:
    how = conditions(["duplex", "pyzmq", "some:other"], repeats=3, seconds=1.0)
    assert "cores" in how.machine
    assert {"duplex-rpc", "pyzmq", "trio", "msgspec"} <= set(how.versions)
    assert "grpcio" not in how.versions


def test_scenarios_ask_for_abilities_that_exist_and_somebody_has() -> None:
    for scenario in SCENARIOS.values():
        assert scenario.needs <= set(ABILITIES), scenario.name
        assert scenario.figures
        assert any(scenario.needs <= entry.abilities for entry in PEERS.values())
    for entry in PEERS.values():
        assert entry.abilities <= set(ABILITIES), entry.name


def test_names_of_figures_tell_their_scenario() -> None:
    assert len(FIGURES) == sum(len(scenario.figures) for scenario in SCENARIOS.values())
    for name in FIGURES:
        assert name.partition(".")[0] in SCENARIOS
