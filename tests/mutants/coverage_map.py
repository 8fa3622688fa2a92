"""Which tests run which lines: measured once for a state of the project, and kept."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Final

from coverage import CoverageData

#: Those that are slow are asked last.
SELECTIONS: Final = ("not slow", "slow")

CONFIGURATION = """
[run]
branch = false
source = duplex
dynamic_context =
[report]
fail_under = 0
"""


class Map:
    """The tests that run a line, those first that run the least else, and so tell the most about it."""

    def __init__(
        self, lines: dict[str, dict[int, list[str]]], slow: set[str], without_functions: Collection[str] = ()
    ) -> None:
        self._lines = lines
        self._without_functions = frozenset(without_functions)
        self._weight: Counter[str] = Counter()
        for by_line in lines.values():
            for tests in by_line.values():
                self._weight.update(tests)
        self._slow = slow

    def tests_of(self, path: str, line: int) -> list[str]:
        """Return the tests that run a line of a file; of the whole file, if the line runs when it is imported; and of all its
        folder's files, if it has no functions that any test could run, only values and types."""
        by_line = self._lines.get(path, {})
        tests: Collection[str] = by_line.get(line, [])
        if path in self._without_functions:
            folder = path.rpartition("/")[0]
            files = [lines for other, lines in self._lines.items() if other.rpartition("/")[0] == folder]
            tests = {test for lines in files for tests in lines.values() for test in tests}
        elif not tests:
            tests = {test for tests in by_line.values() for test in tests}
        return sorted(tests, key=lambda test: (test in self._slow, self._weight[test], test))

    def is_slow(self, test: str) -> bool:
        """Tell whether a test is marked slow."""
        return test in self._slow


def measure(root: Path, folder: Path, words: list[str], *, slow_too: bool) -> Map:
    """Run the tests with coverage, unless that has been done for the same state.

    Args:
        root: a copy of the project.
        folder: where the measurements are kept.
        words: the tests, and more words for pytest.
        slow_too: whether those that are marked slow may notice something too.
    """
    lines: dict[str, dict[int, list[str]]] = {}
    slow: set[str] = set()
    for selection in SELECTIONS[: 2 if slow_too else 1]:
        name = selection.replace(" ", "-")
        data, report = folder / f"{name}.coverage", folder / f"{name}.txt"
        if not data.exists():
            _run(root, folder, selection, words, data, report)
        # What fails without a fault in the code says nothing about one.
        failed = {
            line.split(" ", 1)[1].partition(" - ")[0]
            for line in report.read_text().splitlines()
            if line.startswith(("FAILED ", "ERROR "))
        }
        found = CoverageData(str(data))
        found.read()
        if selection == "slow":
            slow.update(context.rpartition("|")[0] for context in found.measured_contexts())
        for path in found.measured_files():
            by_line = lines.setdefault(str(Path(path).relative_to(root)), {})
            for line, contexts in found.contexts_by_lineno(path).items():
                tests = {context.rpartition("|")[0] for context in contexts if context}
                by_line.setdefault(line, []).extend(sorted(tests - failed))
    return Map(lines, slow, [path for path in lines if not _has_functions((root / path).read_bytes())])


def _has_functions(source: bytes) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(source))
    )


def _run(root: Path, folder: Path, selection: str, words: list[str], data: Path, report: Path) -> None:
    configuration = folder / "coveragerc"
    configuration.write_text(CONFIGURATION)
    unfinished = data.with_suffix(".unfinished")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-m",
        selection,
    ]
    command += ["--cov", f"--cov-config={configuration}", "--cov-report=", "--cov-context=test", *words]
    environment = {**os.environ, "COVERAGE_FILE": str(unfinished), "PYTHONPATH": str(root), "CI": "1"}
    with report.open("w") as output:
        subprocess.run(command, cwd=root, env=environment, stdout=output, check=False)
    unfinished.rename(data)
