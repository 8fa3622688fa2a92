"""Our own peer as a process: what `make conformance` does again and again, once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from duplex.conformance import FAILED, Result
from tests.conformance import rounds
from tests.conformance.helpers import SCENARIOS
from tests.machine import within
from tests.meta.layering import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured("runs the scenarios once more")]


def test_a_round_of_both_roles() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.rounds", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within(300),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


def test_what_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = SCENARIOS["dmtp/7/pong"]
    failed = Result(scenario, FAILED, step=2, expected="PONG(1)", came="nothing within 30 s")

    async def one_round(*_: object) -> list[Result]:
        return [failed]

    monkeypatch.setattr(rounds, "bound_round", one_round)
    monkeypatch.setattr(rounds, "connecting_round", one_round)
    assert rounds.try_rounds(2, [scenario]) == {"binding dmtp/7/pong": 2, "connecting dmtp/7/pong": 2}
    assert (
        "round 2: connecting dmtp/7/pong, step 2: expected PONG(1), came nothing" in capsys.readouterr().out
    )
