"""``make stress``: what hides in the usual order of things, at length.

* ``wires``: the engine's tests over every wire of :mod:`tests.wires`, and against servers in other processes;
* ``rounds``: every example, the README and the tutorial over and over, between processes that load all cores;
* ``oracle``: :mod:`tests.oracle`.

It prints what it does, and a table in the end; its exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.docs.markdown import ROOT
from tests.stress.document import DOCUMENTS
from tests.stress.pair import PIECES
from tests.wires.orders import ORDERS
from tests.wires.place import PROCESS

#: Of so many rounds of an example, the tutorial, which takes much longer, has one.
TUTORIAL: Final = 20
#: Rounds that are run one after the other: the slowest example is spread over all cores, too.
STRETCH: Final = 20
#: Problems that are shown of one part.
SHOWN: Final = 3


@dataclasses.dataclass
class Result:
    """What came of one part."""

    name: str
    good: int = 0
    bad: int = 0
    seconds: float = 0.0
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Result) -> None:
        """Count what came of another run of the same."""
        self.good += other.good
        self.bad += other.bad
        self.seconds += other.seconds
        self.problems += other.problems


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# -- wires -----------------------------------------------------------------------------------------------


def run_wires(seed: str, _size: int) -> list[Result]:
    """Run the engine's tests over every wire, and against servers in other processes."""
    return [_run_wire(wire, seed) for wire in (*ORDERS, PROCESS)]


def _run_wire(wire: str, seed: str) -> Result:
    began = time.monotonic()
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "-p", "no:cacheprovider"),
        *("tests/engine", "tests/client", f"--wire={wire}", f"--wire-seed={seed}", "-m", "not slow"),
    ]
    say(f"wires: {' '.join(command[2:])}")
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = ran.stdout.rstrip().rpartition("\n")[2]
    say(f"wires: {wire}: {last}")
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", last)}
    result = Result(f"wire {wire}", counts.get("passed", 0), seconds=time.monotonic() - began)
    result.bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    if ran.returncode:
        result.bad = result.bad or 1
        result.problems = [ran.stdout[-20_000:] + ran.stderr[-2000:]]
    return result


# -- rounds ----------------------------------------------------------------------------------------------


def run_rounds(seed: str, rounds: int) -> list[Result]:
    """Run every example and document; so many at a time that all cores are loaded."""
    examples = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem not in PIECES)
    jobs = [
        ("tests.stress.document", name, rounds if name == "README.md" else rounds // TUTORIAL or 1)
        for name in DOCUMENTS
    ]
    jobs += [("tests.stress.pair", name, rounds) for name in examples]
    results = {name: Result(name) for _, name, _ in jobs}
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        for job in [
            pool.submit(_run_job, module, name, min(STRETCH, rounds - begin), f"{seed}.{begin}")
            for module, name, rounds in jobs
            for begin in range(0, rounds, STRETCH)
        ]:
            results[job.result().name].add(job.result())
    return list(results.values())


def _run_job(module: str, name: str, rounds: int, seed: str) -> Result:
    began = time.monotonic()
    result = Result(name)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", module, name, str(rounds), seed]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            outcome = json.loads(line)
            if outcome == "ok":
                result.good += 1
            else:
                result.bad += 1
                result.problems.append(f"round {result.good + result.bad}: {outcome}")
    if result.good + result.bad < rounds:
        result.bad += 1
        result.problems.append(f"{' '.join(command)} ended with {process.returncode}")
    result.seconds = time.monotonic() - began
    say(f"rounds: {name}: {result.good} of {rounds} good, {result.seconds:.0f} s")
    return result


# -- oracle ----------------------------------------------------------------------------------------------


def run_oracle(seed: str, operations: int) -> list[Result]:
    """Run the oracle."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.oracle", "--operations", str(operations), "--seed", seed]
    result = Result("oracle")
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            say(f"oracle: {line.rstrip()}")
    result.problems = [line for line in lines if line.startswith("VIOLATION")]
    if process.returncode and not result.problems:
        result.problems = [f"ended with {process.returncode}"]
    result.bad = len(result.problems)
    result.good = operations - result.bad
    result.seconds = time.monotonic() - began
    return [result]


PARTS: Final[dict[str, Callable[[str, int], list[Result]]]] = {
    "wires": run_wires,
    "rounds": run_rounds,
    "oracle": run_oracle,
}


def show(results: list[Result], seed: str) -> None:
    """Print the table."""
    for result in results:
        for problem in result.problems[:SHOWN]:
            say(f"\n== {result.name}\n{problem}")
    say(f"\n{'part':48}{'good':>8}{'bad':>6}{'seconds':>9}")
    for result in results:
        say(f"{result.name:48}{result.good:>8}{result.bad:>6}{result.seconds:>9.0f}")
    bad = sum(result.bad for result in results)
    say(f"\n{bad} were wrong with seed {seed}" if bad else f"\nall is well with seed {seed}")


def main(arguments: list[str] | None = None) -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    options = parser.parse_args(arguments)
    os.chdir(Path(ROOT))
    say(f"seed {options.seed}")
    results: list[Result] = []
    for name in options.parts or PARTS:
        results += PARTS[name](options.seed, options.operations if name == "oracle" else options.rounds)
    show(results, options.seed)
    return 1 if any(result.bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
