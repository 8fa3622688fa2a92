"""Checks against a baseline: what counts as a regression."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import _check
from benchmarks._check import Baseline, compare_instructions, compare_ratios
from benchmarks._instructions import CannotCountError, count_all, in_references, parse
from benchmarks._micro import PROGRAMS
from benchmarks._micro import main as run_micro
from benchmarks._results import Outcome, Results

BASELINE = Baseline(
    instructions={"unary": 4.0, "download": 0.3, "gone": 1.0},
    ratios={"latency.p50": 4.0, "download.rate": 0.5},
    python="CPython 3.11.0",
    versions={"trio": "0.35.0"},
)


@pytest.mark.parametrize(("now", "regressed"), [(3.0, False), (4.0, False), (4.15, False), (4.2, True)])
def test_instructions_may_grow_by_a_few_percent(now: float, regressed: bool) -> None:
    (finding,) = compare_instructions(BASELINE, {"unary": [now, now, now * 1.001]})
    assert finding.what == "instructions of unary"
    assert finding.worse == pytest.approx(now / 4)
    assert finding.spread == pytest.approx(0.001)
    assert finding.regressed is regressed


@pytest.mark.parametrize(
    ("latency", "rate", "regressed"),
    [
        (400, 500, [False, False]),
        (600, 400, [False, False]),
        (800, 500, [True, False]),
        (400, 200, [False, True]),
        (100, 2000, [False, False]),
    ],
)
def test_ratios_may_differ_by_a_lot(latency: float, rate: float, regressed: list[bool]) -> None:
    results = Results(["duplex", "pyzmq"], ["latency", "download"])
    for peer, p50, items in (("duplex", latency, rate), ("pyzmq", 100, 1000)):
        results.add(peer, "latency", Outcome({"p50": float(p50)}))
        results.add(peer, "download", Outcome({"rate": float(items)}))
    assert [finding.regressed for finding in compare_ratios(BASELINE, results)] == regressed


def test_counts_become_multiples_of_the_reference() -> None:
    counts = {"reference": [100.0, 200.0], "unary": [400.0, 820.0]}
    assert in_references(counts) == {"unary": [4.0, 4.1]}


def test_output_of_callgrind_is_read() -> None:
    assert parse(0, "==1== \n==1== Events    : Ir\n==1== Collected : 1722775403\n") == 1722775403
    with pytest.raises(CannotCountError, match="status 1: it broke"):
        parse(1, "it broke")


def test_without_valgrind_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CannotCountError, match="valgrind is not installed"):
        count_all(1, print)
    assert command.main(["check"]) == 2
    assert "cannot count instructions: valgrind is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run(name: str) -> None:
    run_micro([f"{name}=16"])


def test_baseline_is_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    file.write_text(BASELINE.to_json(), encoding="utf-8")
    assert Baseline.load(file) == BASELINE
    file.write_text(json.dumps({"format": 0}), encoding="utf-8")
    with pytest.raises(ValueError, match="not a baseline"):
        Baseline.load(file)


def test_kept_baseline_knows_all_programs_and_ratios() -> None:
    kept = Baseline.load(_check.FILE)
    assert set(kept.instructions) == set(PROGRAMS) - {"reference"}
    assert set(kept.ratios) == set(_check.RATIOS)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """What is counted, without counting; ratios are those of a run of two peers."""
    counts = {"unary": [4.0], "download": [0.3]}
    results = Results(["duplex", "pyzmq"], ["latency"])
    for peer, p50 in (("duplex", 400.0), ("pyzmq", 100.0)):
        results.add(peer, "latency", Outcome({"p50": p50}))
    monkeypatch.setattr(command, "_count", lambda repeats: counts)
    monkeypatch.setattr(command, "_measure", lambda *arguments, pin: results)
    return counts


def test_command_checks(
    measured: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "check.json"
    assert command.main(["check", "--file", str(file)]) == 2
    assert command.main(["baseline", "--file", str(file)]) == 0
    assert command.main(["check", "--file", str(file)]) == 0
    output = capsys.readouterr()
    assert "instructions of unary" in output.out
    assert "REGRESSED" not in output.out
    measured["unary"] = [5.0]
    assert command.main(["check", "--file", str(file)]) == 1
    assert "REGRESSED" in capsys.readouterr().out


def test_instructions_are_checked_and_renewed_alone(
    measured: dict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured in seconds needs a quiet machine, and these do not."""
    file = tmp_path / "check.json"
    assert command.main(["baseline", "--file", str(file), "--instructions"]) == 2, "no ratios to keep"
    assert not file.exists()
    assert command.main(["baseline", "--file", str(file)]) == 0
    ratios = Baseline.load(file).ratios
    assert ratios

    def measure(*arguments: object, pin: bool) -> Results:
        raise AssertionError("nothing was to be measured")

    monkeypatch.setattr(command, "_measure", measure)
    measured["unary"] = [5.0]
    assert command.main(["check", "--file", str(file), "--instructions"]) == 1
    assert command.main(["baseline", "--file", str(file), "--instructions"]) == 0
    assert Baseline.load(file).instructions["unary"] == 5.0
    assert Baseline.load(file).ratios == ratios
    assert command.main(["check", "--file", str(file), "--instructions"]) == 0


def test_command_says_that_the_baseline_is_of_elsewhere(
    measured: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "check.json"
    file.write_text(BASELINE.to_json(), encoding="utf-8")
    assert command.main(["check", "--file", str(file)]) == 0
    assert "the baseline is of CPython 3.11.0" in capsys.readouterr().err
