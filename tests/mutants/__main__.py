"""Make small faults in the engine and the protocol, one at a time, and see whether the tests notice.

    python -m tests.mutants --sample 300 --seed 1

A fault, a *mutant*, is killed if a test fails with it or does not end. What no test notices is printed as a diff: it is a
test that is missing, or it changes nothing that anybody could see, and then ``equivalent.toml`` says why.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import pytest

from tests.mutants.coverage_map import Map, measure
from tests.mutants.operators import Mutant, mutants_of, rank

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("duplex/engine", "duplex/protocol")
EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
#: The tests that can notice anything about them.
FOLDERS_OF_TESTS: Final = ("tests/engine", "tests/protocol", "tests/client", "tests/service", "tests/fuzz")
#: Other wires are for what no single fault is needed for.
WIRE: Final = ("--wire=plain", "--wire-seed=1")
#: What a copy of the project has of it.
COPIED: Final = (
    "duplex",
    "duplex_services",
    "tests",
    "spec",
    "examples",
    "benchmarks",
    "docs",
    "pyproject.toml",
)

#: The tests that are tried in turn: so many of those that run the line, for so many seconds.
STAGES: Final = ((8, 60.0), (60, 120.0), (400, 240.0), (10_000, 900.0))
SLOW_STAGE: Final = (25, 300.0)
#: Seconds for one test.
EACH: Final = 20.0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    fate: str
    """``killed``, ``timeout``, ``survived``, ``equivalent``, or ``not run`` where no test comes to the line."""
    by: str = ""
    """The test that noticed."""
    tests: int = 0
    """How many tests could have."""


class Copy:
    """A copy of the project, and the process that runs tests in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        copy_project(folder)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))},
            "CI": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.runner"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout
        self._changes = 0

    def close(self) -> None:
        self._orders.close()
        self._answers.close()
        self._process.wait()

    def judge(self, mutant: Mutant, which: Map) -> Verdict:
        """Put a mutant into the copy, run the tests that it concerns, and take it out."""
        tests = which.tests_of(mutant.path, mutant.line)
        if not tests:
            return Verdict(mutant, "not run")
        source = (ROOT / mutant.path).read_bytes()
        self._write(mutant.path, mutant.apply(source))
        try:
            for chosen, seconds in stages(tests, which):
                fate, by = self.run(chosen, seconds)
                if fate != "survived":
                    return Verdict(mutant, fate, by, len(tests))
        finally:
            self._write(mutant.path, source)
        return Verdict(mutant, "survived", "", len(tests))

    def run(self, tests: list[str], seconds: float) -> tuple[str, str]:
        """Run tests until one fails; return a fate, and the test."""
        output = self._folder / "output.txt"
        order = {"tests": tests, "each": EACH, "whole": seconds, "output": str(output), "words": WIRE}
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        answer = json.loads(self._answers.readline())
        printed = output.read_text(errors="replace")
        noticed = next((line for line in printed.splitlines() if line.startswith(("FAILED ", "ERROR "))), "")
        by = noticed.partition(" ")[2].partition(" - ")[0]
        if answer["late"] or "the test took longer than" in printed or "Timeout (" in printed:
            return "timeout", by or tests[0]
        if answer["code"] == pytest.ExitCode.OK:
            return "survived", ""
        if answer["code"] < 0:
            return "killed", f"signal {-answer['code']}"
        # What cannot even be imported may be imported by pytest itself, for a folder's fixtures.
        if by or "while loading conftest" in printed:
            return "killed", by
        raise RuntimeError(f"pytest ended with {answer['code']}:\n{printed}")

    def _write(self, path: str, contents: bytes) -> None:
        target = self._folder / path
        target.write_bytes(contents)
        # Compiled code is believed to be of a file with the same size and time, in whole seconds.
        self._changes += 1
        os.utime(target, (0, 1_000_000_000 + self._changes))


def stages(tests: list[str], which: Map) -> Iterator[tuple[list[str], float]]:
    """Divide tests: the most telling first, the slow ones last."""
    quick = [test for test in tests if not which.is_slow(test)]
    slow = [test for test in tests if which.is_slow(test)]
    begin = 0
    for number, seconds in STAGES:
        if quick[begin : begin + number]:
            yield quick[begin : begin + number], seconds
        begin += number
    if slow:
        yield slow[: SLOW_STAGE[0]], SLOW_STAGE[1]


def copy_project(folder: Path) -> None:
    """Copy what tests need of the project."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / name, folder / name)


def all_mutants(only: str | None) -> list[Mutant]:
    """Return every mutant of the files that are changed."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    paths = [str(file.relative_to(ROOT)) for file in files]
    return [
        mutant
        for path in paths
        if only is None or only in path
        for mutant in mutants_of(path, (ROOT / path).read_bytes())
    ]


def state_of_project(tests: Sequence[str]) -> str:
    """Return a digest of the code, its tests, and those that are asked."""
    digest = hashlib.blake2b(repr(tests).encode(), digest_size=8)
    for file in sorted(file for folder in ("duplex", "tests") for file in (ROOT / folder).rglob("*.py")):
        digest.update(str(file).encode() + file.read_bytes())
    return digest.hexdigest()


def diff_of(mutant: Mutant) -> str:
    """Return a mutant as a diff."""
    source = (ROOT / mutant.path).read_bytes()
    before, after = source.decode().splitlines(True), mutant.apply(source).decode().splitlines(True)
    return "".join(difflib.unified_diff(before, after, mutant.path, mutant.path, n=2))


def judge_all(mutants: list[Mutant], which: Map, folder: Path, jobs: int) -> list[Verdict]:
    """Judge mutants in several copies at a time, and say what goes on."""
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    verdicts: list[Verdict] = []

    def work(number: int) -> None:
        copy = Copy(folder / f"copy-{number}")
        try:
            # As a proof that tests can pass here.
            if copy.run(which.tests_of(mutants[0].path, mutants[0].line)[:5], 60.0)[0] != "survived":
                raise RuntimeError("tests fail without a mutant")
            while True:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                began = time.monotonic()
                verdict = copy.judge(mutant, which)
                verdicts.append(verdict)
                seconds = time.monotonic() - began
                say(f"{len(verdicts):4} {verdict.fate:9} {seconds:5.1f} s  {mutant.key}")
        finally:
            copy.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def load_equivalent() -> dict[str, str]:
    """Return the mutants that change nothing anybody could see, with the reason of each."""
    return {
        entry["mutant"]: entry["reason"]
        for entry in tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    }


def confirm(verdicts: list[Verdict], folder: Path) -> list[str]:
    """Return the tests that noticed a mutant, and fail without any."""
    noticed = [verdict.by for verdict in verdicts if verdict.fate in ("killed", "timeout")]
    tests = sorted({test for test in noticed if "::" in test})
    copy = Copy(folder / "copy-0")
    bad: list[str] = []
    try:
        while tests:
            fate, by = copy.run(tests, 60.0 * len(tests))
            if fate == "survived":
                break
            bad.append(by)
            if by not in tests:
                break
            tests = tests[tests.index(by) + 1 :]
    finally:
        copy.close()
    return bad


def report(verdicts: list[Verdict], reasons: dict[str, str]) -> float:
    """Print what came of each module, and the survivors; return the share that was killed."""
    by_path: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        by_path.setdefault(verdict.mutant.path, Counter())[verdict.fate] += 1
    columns = ("killed", "timeout", "survived", "not run", "equivalent")
    say(f"\n{'':42}" + "".join(f"{column:>12}" for column in (*columns, "share")))
    for path, counts in sorted(by_path.items()):
        say(f"{path:42}" + "".join(f"{counts[column]:12}" for column in columns) + f"{_share(counts):>12}")
    everything = sum(by_path.values(), Counter[str]())
    say(
        f"{'all':42}"
        + "".join(f"{everything[column]:12}" for column in columns)
        + f"{_share(everything):>12}"
    )
    survivors = [verdict for verdict in verdicts if verdict.fate in ("survived", "not run")]
    for verdict in sorted(survivors, key=lambda verdict: verdict.mutant[:1] + verdict.mutant[4:6]):
        say(
            f"\n{verdict.fate}, {verdict.tests} tests run the line: {verdict.mutant.key}\n{diff_of(verdict.mutant)}"
        )
    return _killed(everything)


def _killed(counts: Counter[str]) -> float:
    killed = counts["killed"] + counts["timeout"]
    return killed / max(1, killed + counts["survived"] + counts["not run"])


def _share(counts: Counter[str]) -> str:
    return f"{100 * _killed(counts):.1f} %"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--only", help="only files whose path contains this")
    parser.add_argument(
        "--mutant", action="append", help="only mutants whose name contains this; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".mutants", help="where copies and measurements are"
    )
    parser.add_argument("--tests", nargs="+", default=FOLDERS_OF_TESTS, help="the tests that may notice")
    parser.add_argument("--slow", action="store_true", help="ask the tests that are marked slow too")
    parser.add_argument("--least", type=float, default=95.0, help="the least share killed, in percent")
    options = parser.parse_args(arguments)

    reasons = load_equivalent()
    everything = all_mutants(options.only)
    gone = reasons.keys() - {mutant.key for mutant in all_mutants(None)}
    for key in sorted(gone):
        say(f"equivalent.toml names a mutant that is not there any more: {key}")
    chosen = sorted(everything, key=lambda mutant: rank(mutant, options.seed))[: options.sample]
    if options.mutant:
        chosen = [mutant for mutant in everything if any(part in mutant.key for part in options.mutant)]
    say(f"{len(chosen)} of {len(everything)} mutants, seed {options.seed}")

    base = options.folder / state_of_project(options.tests)
    copy_project(base / "measured")
    words = [*options.tests, *WIRE, "-n", str(options.jobs), "--timeout", str(EACH)]
    which = measure(base / "measured", base, words, slow_too=options.slow)
    known = [Verdict(mutant, "equivalent") for mutant in chosen if mutant.key in reasons]
    verdicts = known + judge_all([m for m in chosen if m.key not in reasons], which, base, options.jobs)
    unreliable = confirm(verdicts, base)
    share = report(verdicts, reasons)
    for test in unreliable:
        say(f"fails without a mutant too: {test}")
    say(f"\n{100 * share:.1f} % of the mutants that are not equivalent were killed")
    return 1 if gone or unreliable or 100 * share < options.least else 0


if __name__ == "__main__":
    sys.exit(main())
