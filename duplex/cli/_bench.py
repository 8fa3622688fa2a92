"""``duplex bench``: connecting, learning of the method, making the calls, and the report."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import trio

from duplex.cli._bench_report import (
    compare,
    comparison_text,
    describe_run,
    read_run,
    run_exit_code,
    run_notes,
    run_text,
)
from duplex.cli._figures import Figures
from duplex.cli._load import Plan, fire
from duplex.cli._output import to_json
from duplex.cli._progress import show_progress
from duplex.cli._report import tell
from duplex.cli._session import describe_method, linked
from duplex.cli._shots import Ammunition, load


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark, as the command line has it. Times are seconds."""

    endpoint: str
    ammunition: Ammunition
    plan: Plan
    links: int = 1
    connect_timeout: float = 5.0
    as_json: bool = False
    #: The file of an earlier run to compare with.
    compare: str | None = None


async def run_benchmark(benchmark: Benchmark) -> int:
    """Run a benchmark and write what it found to stdout, and what makes that doubtful to stderr.

    If this is cancelled, what was measured so far is written.

    Returns:
        The exit code.
    """
    before = None if benchmark.compare is None else read_run(benchmark.compare)
    figures = Figures()
    async with contextlib.AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(linked(benchmark.endpoint, benchmark.connect_timeout))
            for _ in range(benchmark.links)
        ]
        target = benchmark.ammunition.target
        method = await describe_method(links[0], target, timeout=benchmark.connect_timeout)
        shots = load(benchmark.ammunition, method, links)
        what: dict[str, Any] = {
            "method": target,
            "kind": method.kind if method is not None else "unary",
            "endpoint": benchmark.endpoint,
            "peer": links[0].peer_name,
            "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "interrupted": True,
            "options": _options(benchmark),
        }
        try:
            await _fire(benchmark.plan, shots, figures)
            what["interrupted"] = False
        except Exception:
            raise
        except BaseException:
            # Cancelled, alone or in a group.
            _report(benchmark, describe_run(figures, what), before)
            raise
    run = describe_run(figures, what)
    _report(benchmark, run, before)
    return run_exit_code(run)


async def _fire(plan: Plan, shots: Sequence[Any], figures: Figures) -> None:
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show_progress, plan, figures)
        try:
            await fire(plan, shots, figures)
        except Exception as error:
            # Raised below: a nursery would wrap it in a group.
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


def _options(benchmark: Benchmark) -> dict[str, Any]:
    """Return what decides on the figures."""
    plan, ammunition = benchmark.plan, benchmark.ammunition
    return {
        "concurrency": plan.concurrency,
        "rate": plan.rate,
        "duration": plan.duration if math.isfinite(plan.duration) else None,
        "warmup": plan.warmup,
        "count": plan.count,
        "links": benchmark.links,
        "timeout": ammunition.timeout,
        "payload": None if ammunition.payload is None else len(ammunition.payload),
        "items": ammunition.items,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _report(benchmark: Benchmark, run: dict[str, Any], before: dict[str, Any] | None) -> None:
    notes = list(run_notes(run))
    if benchmark.as_json:
        compared = {} if before is None else {"comparison": compare(before, run)}
        click.echo(to_json({**run, "notes": notes, **compared}).decode())
    else:
        click.echo(run_text(run))
        if before is not None:
            click.echo("\n" + comparison_text(before, run))
    for note in notes:
        tell(f"note: {note}")
