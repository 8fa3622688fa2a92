"""The command: ``python -m benchmarks.features --help``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.features._checks import Finding
from benchmarks.features._libraries import LIBRARIES, Library
from benchmarks.features._page import PAGE, Cell, Page, read

#: Seconds for all checks of one library.
_PATIENCE: Final = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and return the exit status: 1 if one failed, or the page says something else; 2 if the page cannot be read."""
    options = _parser().parse_args(arguments)
    if options.tell:
        for finding in LIBRARIES[options.libraries[0]].checks().run(lambda row: options.only in row):
            print(json.dumps(dataclasses.asdict(finding)), flush=True)
        return 0
    try:
        page = read(options.page.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    problems = gaps(page)
    for name in options.libraries:
        library = LIBRARIES[name]
        if library.missing:
            print(f"{library.title} is left out: {library.missing}")
            continue
        print(
            f"{library.title}:", ", ".join(f"{what} {version}" for what, version in library.versions.items())
        )
        findings, failure = run(library, options.only)
        found = [problem for finding in findings if (problem := disagreement(page, library, finding))]
        problems += [*found, *([failure] if failure else [])]
        for finding in findings if options.verbose else ():
            print(f"    {finding.feature}: {finding.answer}\n        {finding.how}")
        print(f"    {len(findings)} cells checked, {len(found)} are not as the page says")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def run(library: Library, only: str = "") -> tuple[list[Finding], str]:
    """Run the checks of a library in a process of its own, which need not end by itself.

    Returns:
        What was found, and what kept the others from being checked, if anything did.
    """
    command = [sys.executable, "-m", "benchmarks.features", library.name, "--tell", "--only", only]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=_PATIENCE)
        failure = f"{library.title}: the checks ended with status {process.returncode}: {err[-2000:]}"
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        failure = f"{library.title}: the checks took more than {_PATIENCE} s: {err[-2000:]}"
    findings = [Finding(**json.loads(line)) for line in out.splitlines() if line.startswith('{"feature"')]
    return findings, failure if process.returncode else ""


def disagreement(page: Page, library: Library, finding: Finding) -> str:
    """Say how the page and what was found differ; empty if they agree."""
    cell = page.cells.get((finding.feature, library.title))
    if finding.answer is None:
        return f"{library.title}, {finding.feature}: the check failed: {finding.how}"
    if cell is not None and cell.answer != finding.answer:
        return f"{library.title}, {finding.feature}: the page says {cell.answer}, found was {finding.answer}: {finding.how}"
    return ""


def gaps(page: Page) -> list[str]:
    """Tell the cells that nothing stands behind, and the checks and sources that no cell has."""
    problems = []
    titles = {library.title: library.checks().features for library in LIBRARIES.values()}
    for (feature, title), cell in page.cells.items():
        problems += [
            f"{title}, {feature}: {problem}" for problem in _gaps(page, feature, title, cell, titles)
        ]
    for title, features in titles.items():
        problems += [
            f"{title}, {feature}: it is checked, but not in the page"
            for feature in features
            if (feature, title) not in page.cells
        ]
    problems += [
        f"{title}, {feature}: a source is named, but not in the page"
        for feature, title in page.sources
        if (feature, title) not in page.cells
    ]
    return problems


def _gaps(
    page: Page, feature: str, title: str, cell: Cell, titles: Mapping[str, Collection[str]]
) -> list[str]:
    if title not in titles:
        return [f"there is no library {title}; there are {', '.join(titles)}"]
    checked = feature in titles[title]
    named = (feature, title) in page.sources
    if cell.told and not named:
        return ["it is said to be from documentation, but no source is named"]
    if named and not cell.told:
        return ["a source is named, but the cell is not marked"]
    if cell.told and checked:
        return ["it is said to be from documentation, but it is checked"]
    if not cell.told and not checked:
        return ["it is neither checked nor from documentation"]
    if cell.answer == "part" and not cell.words:
        return ["it says part, but not which"]
    return []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description="Checks docs/comparison.md: uses every library that is installed, and compares.",
    )
    parser.add_argument(
        "libraries",
        nargs="*",
        type=_library,
        default=list(LIBRARIES),
        metavar="LIBRARY",
        help=f"any of {', '.join(LIBRARIES)}; all by default",
    )
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only rows that have these words in their names"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what was found, and how")
    parser.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    parser.add_argument("--tell", action="store_true", help=argparse.SUPPRESS)
    return parser


def _library(name: str) -> str:
    if name not in LIBRARIES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(LIBRARIES)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
