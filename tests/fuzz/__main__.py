"""``python -m tests.fuzz --runs N``: every target for a stated number of inputs, and a table of what came of it.

The targets of one process get N inputs each, guided by coverage (atheris); the socket of a live peer gets
N / 5, over tcp and over ipc each; the doors of services, which are DNS and HTTP, N / 2 each; and the state machines of ``tests/protocol`` run N / 25000 times as many
examples as in ``make test``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.fuzz import doors, live
from tests.fuzz.seeds import CORPUS

ROOT: Final = Path(__file__).resolve().parents[2]
MACHINES: Final = (
    "tests/protocol/test_protocol_machine.py",
    "tests/protocol/test_hostile_machine.py",
    "tests/protocol/test_flow_machine.py",
)


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def guided(target: str, runs: int, seed: int, found: Path) -> tuple[int, list[str]]:
    """Run a target under atheris; return how many inputs it took and what was found."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as grown:
        found.mkdir(parents=True, exist_ok=True)
        options = [f"-runs={runs}", f"-seed={seed}", f"-artifact_prefix={found}/{target}-", "-max_len=4096"]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz.run",
                target,
                *options,
                "-timeout=20",
                grown,
                str(CORPUS / target),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finished = re.search(r"Done (\d+) runs", done.stderr)
    if done.returncode == 0 and finished is not None:
        return int(finished.group(1)), []
    counts = [int(count) for count in re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)]
    return max(counts, default=0), [done.stdout[-2000:] + done.stderr[-3000:]]


def machines(times: int) -> tuple[int, list[str]]:
    """Run the state machines at length; return how many examples that was, and the failures."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout=0", "-p", "no:cacheprovider", *MACHINES],
        cwd=ROOT,
        env={**os.environ, "DUPLEX_HYPOTHESIS": str(times)},
        capture_output=True,
        text=True,
        check=False,
    )
    from tests.protocol import test_flow_machine, test_hostile_machine, test_protocol_machine

    settings = [
        case.settings
        for case in (
            test_protocol_machine.TestProtocol,
            test_hostile_machine.TestHostile,
            test_flow_machine.TestFlow,
        )
    ]
    examples = sum(one.max_examples for one in settings) * times
    return examples, [] if done.returncode == 0 else [done.stdout[-5000:]]


def main() -> int:
    """Run everything, print the table and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 2**31, help="by default another every time"
    )
    parser.add_argument("--found", type=Path, default=ROOT / "fuzz-found", help="where inputs go that fail")
    options = parser.parse_args()
    say(f"fuzzing with {options.runs} inputs for a target and seed {options.seed}")
    say(f"{'target':22}{'inputs':>10}{'findings':>10}{'seconds':>9}")
    findings: list[str] = []

    def row(target: str, inputs: int, found: list[str], started: float) -> None:
        say(f"{target:22}{inputs:>10}{len(found):>10}{time.monotonic() - started:>9.1f}")
        findings.extend(f"{target}: {text}" for text in found)

    for target in sorted(path.name for path in CORPUS.iterdir()):
        started = time.monotonic()
        row(target, *guided(target, options.runs, options.seed, options.found), started)
    for scheme in ("tcp", "ipc"):
        started = time.monotonic()
        result = live.run(scheme, max(1, options.runs // 5), options.seed)
        row(f"live peer, {scheme}", result.inputs, result.findings, started)
        say(f"    {result.describe()}")
    for door in doors.DOORS:
        started = time.monotonic()
        row(door, *doors.run(door, max(1, options.runs // 2), options.seed), started)
    started = time.monotonic()
    row("machines (examples)", *machines(max(1, options.runs // 25_000)), started)
    for text in findings:
        say(f"\nFOUND: {text}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
