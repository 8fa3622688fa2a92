"""A sample of ``make stress``, and that its checks can fail."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.docs.markdown import ROOT
from tests.machine import within
from tests.stress.__main__ import Result, show
from tests.stress.document import DOCUMENTS, definitions
from tests.stress.pair import PIECES, TOGETHER, compare

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
BETWEEN_PROCESSES = [name for name in EXAMPLES if name not in {*TOGETHER, *PIECES, "demo"}]


def rounds_of(module: str, name: str, rounds: int, seed: str) -> list[str]:
    """What came of some rounds."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", module, name, str(rounds), seed],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=within(60),
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", BETWEEN_PROCESSES)
def test_an_example_between_processes(name: str, request: pytest.FixtureRequest) -> None:
    assert rounds_of("tests.stress.pair", name, 2, request.config.option.wire_seed) == ["ok"] * 2


@pytest.mark.slow
def test_the_demonstration_is_no_example_that_is_loaded() -> None:
    """It is run as a process; ``make demo`` itself is tried in ``tests/docs``."""
    assert rounds_of("tests.stress.pair", "demo", 0, "1") == []


@pytest.mark.slow
def test_the_readme_between_processes(request: pytest.FixtureRequest) -> None:
    assert rounds_of("tests.stress.document", "README.md", 1, request.config.option.wire_seed) == ["ok"]


def test_what_is_run_is_there() -> None:
    assert set(TOGETHER) < set(EXAMPLES)
    assert len(BETWEEN_PROCESSES) >= 10
    assert len(DOCUMENTS) > 5
    assert "demo" in {service.name for service in definitions("README.md")}


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["a\nc\n", "b\n"], None),
        (["", "a\nb\nc\n"], None),
        (["a\n", "b\n"], "1 lines are missing, such as 'c'"),
        (["a\nb\nc\n", "b\n"], "1 lines are too many, such as 'b'"),
        (["c\na\n", "b\n"], "the order of lines is another"),
    ],
)
def test_what_two_processes_print_is_compared(texts: list[str], problem: str | None) -> None:
    assert compare("a\nb\nc\n", *texts) == ([] if problem is None else [problem])


def test_the_table_shows_what_was_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    show([Result("one", 3, 0, 1.2), Result("two", 1, 1, 2.3, ["round 2: a line is missing"])], "7")
    shown = capsys.readouterr().out
    assert "round 2: a line is missing" in shown
    assert shown.endswith("\n1 were wrong with seed 7\n")
