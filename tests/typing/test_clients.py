"""mypy and pyright accept the clients of ``clients.py`` that work, and refuse those that fail when they run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).with_name("clients.py")

pytestmark = pytest.mark.slow


def refused() -> set[int]:
    """The lines that type checkers are to refuse."""
    lines = CLIENTS.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # refused")}


def run(*command: str, cwd: Path | None = None) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=110, check=False, cwd=cwd
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr  # it found something
    return ran.stdout


def test_mypy() -> None:
    output = run("mypy", "--strict", str(CLIENTS))
    assert {int(line) for line in re.findall(r"clients\.py:(\d+): error", output)} == refused(), output


def test_pyright(tmp_path: Path) -> None:
    # Its own rules are stricter than pyright's; these are pyright's.
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    output = run(
        "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path), str(CLIENTS)
    )
    found = [each for each in json.loads(output)["generalDiagnostics"] if each["severity"] == "error"]
    assert {each["range"]["start"]["line"] + 1 for each in found} == refused(), output
