"""The soak in miniature, and the arithmetic of its verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak.__main__ import main
from tests.soak.plan import KINDS, plan
from tests.soak.supervisor import unexpected
from tests.soak.verdict import Bounds, MiB, judge_memory, memory_of, slope_of


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--minutes", str(8 / 60), "--seed", "3", "--json", str(tmp_path / "summary.json")])
    printed = capsys.readouterr().out
    assert code == 0, printed
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["violations"] == []
    assert len(summary["outcomes"]) == 11
    assert all(by_outcome["good"] for by_outcome in summary["outcomes"].values()), printed
    assert sum(summary["faults"].values()) >= 5
    assert set(summary["memory"]) == {"server-tcp", "server-ipc", "client-steady"}
    assert all(one["samples"] > 10 for one in summary["memory"].values())


def test_the_plan_follows_from_the_seed() -> None:
    faults = plan(1, 480)
    assert faults == plan(1, 480) != plan(2, 480)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(fault.target in KINDS[fault.kind][1] for fault in faults)
    assert all(480 * 0.03 <= fault.at <= 480 * 0.92 for fault in faults)
    assert sorted(faults, key=lambda fault: fault.at) == faults


def test_slope() -> None:
    assert slope_of([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope_of([(0, 4), (1, 4)]) == 0
    assert slope_of([(0, 4)]) == 0


def test_growth_is_told_and_the_warm_up_is_not_growth() -> None:
    def samples(rate: float) -> list[tuple[float, float]]:
        """Forty MiB more in the first minute of ten, then so many MiB a minute."""
        return [(second, MiB * (50 + min(second, 60) / 1.5 + rate * second / 60)) for second in range(600)]

    bounds = Bounds(slope=1, most=150)
    flat, growing = memory_of(samples(0), 600), memory_of(samples(2), 600)
    assert flat.slope == pytest.approx(0)
    assert growing.slope == pytest.approx(2)
    assert judge_memory({"flat": flat}, bounds) == []
    assert judge_memory({"x": growing}, bounds) == ["x grows by 2.00 MiB a minute; 1 are allowed"]
    assert judge_memory({"x": flat}, Bounds(most=60)) == ["x took 90 MiB; 60 are allowed"]
    short = memory_of(samples(2)[:60], 60)
    assert short.slope is None, "too short to tell"


def test_tracebacks_are_found() -> None:
    wanted = "handling a message failed\nTraceback (most recent call last):\n  ...\nValueError: x"
    assert unexpected("the link ended\n") == []
    assert unexpected(f"the link ended\n{wanted}") == [wanted]
    assert unexpected(wanted.partition("\n")[2]) == ["\n" + wanted.partition("\n")[2]]
    assert unexpected("the handler of a notification to s.m failed\nTraceback (most recent call last):") == []
