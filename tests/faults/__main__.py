"""Runs the whole fault suite at full size and prints the table: ``python -m tests.faults``, or ``make faults``."""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import trio

from tests.faults.checks import KEEPALIVE, SIDES
from tests.faults.fault_blocked import blocked
from tests.faults.fault_load import abandoned, abandoned_by_death, flood, slow_reader
from tests.faults.fault_network import PATIENT, SPARING, bad_wire, blip, cut
from tests.faults.fault_restart import restarts
from tests.faults.fault_signals import SIGNALS, kill_or_stop
from tests.faults.loads import KINDS
from tests.faults.report import Report, table, write
from tests.faults.stage import ActorError
from tests.machine import why_no_namespaces

Fault: TypeAlias = Callable[[], Awaitable[Report]]

#: The keepalive that users have who do not ask for another.
DEFAULTS: Final = (5.0, 15.0)
#: Seconds after which a fault is given up.
_WITHIN: Final = 900.0


def signals() -> Iterator[Fault]:
    """Each side, each signal, each kind of call by itself, and all together."""
    for side in SIDES:
        for number in SIGNALS:
            for kinds in (*([kind] for kind in KINDS), list(KINDS)):
                yield functools.partial(kill_or_stop, side, number, kinds)


def networks() -> Iterator[Fault]:
    """Cuts, delay and loss."""
    for ways in (("ab", "ba"), ("ab",), ("ba",)):
        yield functools.partial(cut, ways)
    yield functools.partial(cut, ("ab", "ba"), SPARING)
    yield functools.partial(blip, 0.7)
    wire = functools.partial(bad_wire, tasks=5, length=20)
    yield functools.partial(wire, "100 ms delay each way", KEEPALIVE, times=3, least=0.2, delay=0.1)
    jitter = "50 ms delay and up to 50 ms of jitter"
    yield functools.partial(wire, jitter, KEEPALIVE, times=3, least=0.1, delay=0.05, jitter=0.05)
    yield functools.partial(wire, "5 % loss", PATIENT, times=30, loss=0.05)
    yield functools.partial(wire, "5 % loss and 100 ms delay", PATIENT, times=1, loss=0.05, delay=0.1)


def servers() -> Iterator[Fault]:
    """Restarts."""
    yield functools.partial(restarts, 50)


def loops() -> Iterator[Fault]:
    """Blocked event loops."""
    for side in SIDES:
        yield functools.partial(blocked, side, 8.0, KEEPALIVE)
        yield functools.partial(blocked, side, 8.0, KEEPALIVE, flood=100_000)
        yield functools.partial(blocked, side, 20.0, DEFAULTS)
        yield functools.partial(blocked, side, 20.0, DEFAULTS, flood=100_000)


def loads() -> Iterator[Fault]:
    """Slow readers, floods and abandoned channels."""
    for side in SIDES:
        yield functools.partial(slow_reader, side, 20.0)
    for way in ("notify", "unary", "send", "receive"):
        for side in SIDES:
            yield functools.partial(flood, way, side, 1_000_000)
    yield functools.partial(abandoned, 10_000)
    yield functools.partial(abandoned_by_death, 2500, 4)


GROUPS: Final = {
    "signals": signals,
    "networks": networks,
    "servers": servers,
    "loops": loops,
    "loads": loads,
}


def name_of(fault: Fault) -> str:
    """Say which fault this is before it is known what came of it."""
    assert isinstance(fault, functools.partial)
    words = (*fault.args, *fault.keywords.values())
    return re.sub(r"[<>']", "", f"{fault.func.__name__} {' '.join(map(str, words))}")


async def run(fault: Fault) -> Report:
    """Run a fault; one that breaks down is a problem of its own."""
    try:
        with trio.fail_after(_WITHIN):
            return await fault()
    except (ActorError, trio.TooSlowError, ExceptionGroup) as error:
        return Report(name_of(fault), problems=[f"broke down: {error!r}"])


async def run_all(groups: list[str], repeat: int) -> list[Report]:
    """Run every fault of some groups, saying how far it is."""
    reports = []
    for group in groups:
        if group == "networks" and (problem := why_no_namespaces()) is not None:
            sys.stderr.write(f"networks: skipped: {problem}\n")
            continue
        for fault in list(GROUPS[group]()) * repeat:
            began = time.monotonic()
            report = await run(fault)
            reports.append(report)
            state = "as asked" if not report.problems else f"{len(report.problems)} problems"
            sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {report.fault}: {state}\n")
    return reports


def main() -> int:
    """Parse the command line, run, print; the exit status is 1 if something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--repeat", type=int, default=1, help="run each fault so many times")
    parser.add_argument(
        "--write", type=Path, action="append", default=[], help="write the table there, Markdown or .json"
    )
    options = parser.parse_args()
    if unknown := set(options.groups) - GROUPS.keys():
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    reports = trio.run(run_all, options.groups or list(GROUPS), options.repeat)
    sys.stdout.write(table(reports))
    for path in options.write:
        write(reports, path)
    return int(any(report.problems for report in reports))


if __name__ == "__main__":
    sys.exit(main())
