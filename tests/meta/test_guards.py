"""The fixtures of ``conftest.py`` do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st


def test_present_program_is_found(require_program: Callable[[str], str]) -> None:
    assert require_program("sh").endswith("sh")


def test_missing_program_skips(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUPLEX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_program("no-such-program")


def test_missing_program_fails_where_required(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPLEX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require_program("no-such-program")


@hypothesis.given(st.integers())
def test_hypothesis_has_no_deadline(number: int) -> None:
    assert hypothesis.settings().deadline is None


async def test_async_tests_run_in_trio() -> None:
    import trio

    assert trio.current_time() > 0


LOGS = """
import logging
import pytest

@pytest.mark.parametrize("text", ["transmitting failed", "incident %s: the handler of %s failed"])
def test_logs(text):
    logging.getLogger("duplex").error(text, *["x"] * text.count("%s"))

def test_looks(caplog):
    logging.getLogger("duplex").error("transmitting failed")

def test_warns():
    logging.getLogger("duplex").warning("transmitting failed")
"""


def test_errors_of_duplexs_own_that_nobody_looks_at_fail_a_test(tmp_path: Path) -> None:
    path = tmp_path / "test_logs.py"
    path.write_text(LOGS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert "3 passed, 1 error" in ran.stdout or "4 passed, 1 error" in ran.stdout, ran.stdout
    assert "an error was logged, and nobody looked at it: transmitting failed" in ran.stdout
    assert "incident" not in ran.stdout.partition("short test summary")[2]
