"""Every example runs, ends by itself, and prints what ``expected/`` says, without a warning."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import duplex
from tests.docs.markdown import ROOT
from tests.machine import within
from tests.stress.pair import PIECES

EXAMPLES: Final = ROOT / "examples"
EXPECTED: Final = Path(__file__).with_name("expected")

#: Services without a program around them, and the demonstration, which has a test of its own.
APART: Final = PIECES | {"demo"}

NAMES: Final = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in APART)

#: Seconds; the longest example takes about one.
PATIENCE: Final = 60


def run(example: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        # Not ROOT: an example must not depend on where it is started.
        cwd=EXPECTED,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=within(PATIENCE),
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_example(name: str) -> None:
    ran = run(EXAMPLES / f"{name}.py")
    assert ran.stderr == ""
    assert ran.returncode == 0
    assert ran.stdout == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")


def test_nothing_is_expected_of_an_example_that_is_not_there() -> None:
    assert sorted(path.stem for path in EXPECTED.iterdir()) == NAMES


@pytest.mark.parametrize("name", [*NAMES, *sorted(APART)])
def test_an_example_says_what_it_shows(name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert f"[{name}.py]({name}.py)" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def load_calc() -> duplex.Service:
    spec = importlib.util.spec_from_file_location("calc", EXAMPLES / "calc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (service,) = duplex.services_of(module)
    return service


def test_calc_has_one_method_of_every_kind() -> None:
    assert {method.kind for method in load_calc().methods.values()} == set(duplex.Kind)


def test_calc_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = set(load_calc().methods)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert everything - set(load_calc().methods) == {"scale"}
