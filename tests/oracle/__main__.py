"""``python -m tests.oracle --operations 100000 --seed 1``: every call is accounted for.

It ends with 0 if nothing was executed twice, told untruly, lost or left; with 1 and a list if something was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import trio

from tests.oracle.stage import Report, Stage

#: Violations that are printed.
SHOWN = 40


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def run(operations: int, seed: int, directory: Path) -> Report:
    """Run it."""
    return await Stage(operations, seed, directory, say).run()


def show(report: Report) -> None:
    """Print what came of it."""
    verdict = report.verdict
    say(f"\n{'call':14}{'made':>8}{'executed':>10}{'well':>8}  otherwise")
    for kind, outcomes in sorted(verdict.outcomes.items()):
        others = ", ".join(f"{count} {name}" for name, count in outcomes.most_common() if name != "ok")
        made, well = outcomes.total(), outcomes["ok"]
        say(f"{kind:14}{made:>8}{verdict.executed[kind]:>10}{well:>8}  {others}")
    say("\nfaults: " + ", ".join(f"{count} {name}" for name, count in sorted(report.faults.items())))
    say(
        f"{report.made} calls were asked for, {verdict.operations} made with those of handlers and of processes that "
        f"were killed; {report.lives} processes; {report.seconds:.0f} s; seed {report.seed}"
    )
    for violation in verdict.violations[:SHOWN]:
        say(f"VIOLATION: {violation}")
    if verdict.violations:
        say(f"{len(verdict.violations)} violations; the journals are in {report.directory}")
    else:
        say("every call is accounted for")


def main(arguments: list[str] | None = None) -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    say(f"{options.operations} calls with seed {options.seed}")
    directory = Path(tempfile.mkdtemp(prefix="oracle-"))
    report = trio.run(run, options.operations, options.seed, directory)
    show(report)
    if not report.verdict.violations:
        shutil.rmtree(directory)
    return 1 if report.verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
