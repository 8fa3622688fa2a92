"""What a slow worker costs, measured with real processes."""

from __future__ import annotations

import pytest

from benchmarks.balancing import main


@pytest.mark.slow
def test_the_least_loaded_one_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The figure itself is for a quiet machine. On a busy one the order still holds, in one of three runs at least."""

    def shares() -> tuple[float, float]:
        main(["--callers", "12", "--seconds", "1"])
        (row,) = [line for line in capsys.readouterr().out.splitlines() if " 12 " in line]
        least_loaded, round_robin = (float(cell) for cell in row.split("│")[2:4])
        return least_loaded, round_robin

    assert any(least_loaded > 2 * round_robin for least_loaded, round_robin in (shares() for _ in range(3)))
