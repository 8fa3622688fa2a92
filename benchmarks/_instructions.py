"""Counts the instructions of :mod:`benchmarks._micro` with valgrind's callgrind.

Unlike times, counts hardly depend on what else the machine does. They are not perfectly equal either: trio
wakes tasks of one moment in random order, and addresses decide how dicts of objects collide. How far two counts
of the same program are apart is measured along with them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks._micro import PROGRAMS

ROOT: Final = Path(__file__).resolve().parents[1]
#: How often each program does its work in a run that is only there to be subtracted: past what is done once.
FEW: Final = 16


class CannotCountError(Exception):
    """Instructions cannot be counted here."""


def count_all(repeats: int, progress: Callable[[str], None]) -> dict[str, list[float]]:
    """Return the instructions that one call, item or hand-over of each program takes, ``repeats`` times.

    Raises:
        CannotCountError: valgrind is missing or does not run.
    """
    if shutil.which("valgrind") is None:
        raise CannotCountError("valgrind is not installed (apt-get install valgrind)")
    runs: list[str | None] = [name for name in (None, *PROGRAMS) for _ in range(repeats)]
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        counts = list(pool.map(_count, runs))
    bases = [count for name, count in zip(runs, counts, strict=True) if name is None]
    found: dict[str, list[float]] = {}
    for name, (_, many) in PROGRAMS.items():
        mine = [count for run, count in zip(runs, counts, strict=True) if run == name]
        found[name] = [(count - base) / (many - FEW) for count, base in zip(mine, bases, strict=True)]
        progress(f"{name}: {found[name][0]:,.0f} instructions")
    return found


def in_references(counts: Mapping[str, Iterable[float]]) -> dict[str, list[float]]:
    """Return counts as multiples of what the reference takes."""
    references = list(counts["reference"])
    return {
        name: [count / reference for count, reference in zip(values, references, strict=True)]
        for name, values in counts.items()
        if name != "reference"
    }


def _count(more_of: str | None) -> int:
    """Run all programs few times, and the named one many times; return the instructions of the whole."""
    numbers = [f"{name}={many if name == more_of else FEW}" for name, (_, many) in PROGRAMS.items()]
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    finished = subprocess.run(
        [*tool, sys.executable, "-m", "benchmarks._micro", *numbers],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return parse(finished.returncode, finished.stderr)


def parse(status: int, output: str) -> int:
    """Return the instructions that callgrind tells at the end of its output."""
    match = re.search(r"Collected : (\d+)", output)
    if status or match is None:
        raise CannotCountError(f"valgrind ended with status {status}: {output.strip()[-1000:]}")
    return int(match[1])
