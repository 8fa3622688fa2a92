"""The oracle at a small size; ``make stress`` runs it at a large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.stage import Stage

#: Enough for every manner of call, several times, and for some faults.
OPERATIONS = 300


@pytest.mark.slow
@pytest.mark.timeout(300)  # some fifteen processes are started, which takes long on a busy machine
async def test_every_call_is_accounted_for(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed = int(request.config.option.wire_seed)
    report = await Stage(OPERATIONS, seed, tmp_path, print).run()
    assert report.verdict.violations == [], f"python -m tests.oracle --seed {seed}"
    assert report.made == OPERATIONS
    assert len(report.verdict.outcomes) > 20
    assert sum(outcomes["ok"] for outcomes in report.verdict.outcomes.values()) > OPERATIONS / 2
