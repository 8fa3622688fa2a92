"""``python -m tests.soak``: mixed load and faults for some minutes; memory must stay flat.

It ends with 0 if every call ended in time with an outcome that is allowed, nothing was delivered twice, the
memory of the processes that live all along stayed flat, and nothing was left over; with 1 if not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from tests.soak.supervisor import Supervisor, supervise
from tests.soak.verdict import Bounds, Memory, draw, judge_memory, memory_of


def say(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def soak(seed: int, seconds: float) -> Supervisor:
    """Run it."""
    async with supervise(seed, seconds) as supervisor:
        await supervisor.run()
    return supervisor


def outcomes(counts: Counter[str]) -> dict[str, Counter[str]]:
    """Group the counts by operation."""
    table: dict[str, Counter[str]] = {}
    for key, count in sorted(counts.items()):
        kind, outcome = key.rsplit(" ", 1)
        table.setdefault(kind, Counter())[outcome] += count
    return table


def summary(run: Supervisor, memory: dict[str, Memory], violations: list[str]) -> dict[str, Any]:
    """Return everything that a program may want to know."""
    return {
        "seed": run.seed,
        "seconds": run.duration,
        "calls": sum(run.counts.values()),
        "outcomes": outcomes(run.counts),
        "faults": run.faults,
        "restarts": {name: child.starts - 1 for name, child in run.children.items() if child.starts > 1},
        "memory": {name: dataclasses.asdict(one) for name, one in memory.items()},
        "ends": run.ends,
        "violations": violations,
    }


def show(run: Supervisor, memory: dict[str, Memory], violations: list[str]) -> None:
    """Print the summary."""
    say(f"\n{'operation':14}{'good':>9}  otherwise")
    for kind, by_outcome in outcomes(run.counts).items():
        others = ", ".join(f"{count} {name}" for name, count in by_outcome.most_common() if name != "good")
        say(f"{kind:14}{by_outcome['good']:>9}  {others}")
    say(f"{'all':14}{sum(run.counts.values()):>9}  (of the clients that were not killed)")
    say("\nfaults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(run.faults.items())))
    say(f"\n{'process':16}{'first':>8}{'last':>8}{'most':>8} MiB {'slope':>8} MiB/min  descriptors, objects")
    for name, one in memory.items():
        ends = run.ends[name]
        slope = "-" if one.slope is None else f"{one.slope:+.3f}"
        counted = ", ".join(f"{ends['before'][key]} -> {ends['after'][key]}" for key in ("fds", "objects"))
        say(f"{name:16}{one.first:8.1f}{one.last:8.1f}{one.most:8.1f}     {slope:>8}          {counted}")
    say()
    for violation in violations[:50]:
        say(f"VIOLATION: {violation}")
    say("held" if not violations else f"{len(violations)} violations")


def main(arguments: list[str] | None = None) -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="where to draw the memory; needs matplotlib")
    parser.add_argument("--json", type=Path, help="where to write the summary")
    parser.add_argument("--slope", type=float, default=Bounds.slope, help="MiB a minute that are allowed")
    parser.add_argument("--most", type=float, default=Bounds.most, help="MiB that are allowed")
    options = parser.parse_args(arguments)
    say(f"soaking for {options.minutes:g} minutes with seed {options.seed}")
    run = trio.run(soak, options.seed, options.minutes * 60)
    memory = {name: memory_of(samples, run.duration) for name, samples in run.samples.items()}
    violations = run.violations + judge_memory(memory, Bounds(options.slope, options.most))
    show(run, memory, violations)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(summary(run, memory, violations), indent=2) + "\n")
    if options.plot:
        draw(run.samples, memory, options.plot)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
