"""How far a benchmark is, in one line of a terminal that is drawn again and again.

It is drawn by hand, in microseconds: rich takes milliseconds, during which no answer would be noticed.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Final

import trio

from duplex.cli._figures import Figures
from duplex.cli._load import Plan

_PAUSE: Final = 0.5
_BAR: Final = 24


async def show_progress(plan: Plan, figures: Figures) -> None:
    """Draw the line until cancelled, and then erase it. Does nothing if stderr is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return
    started = trio.current_time()
    try:
        while True:
            _write(f"\r\x1b[K{progress_line(plan, figures, trio.current_time() - started)}")
            await trio.sleep(_PAUSE)
    finally:
        _write("\r\x1b[K")


def progress_line(plan: Plan, figures: Figures, seconds: float) -> str:
    """Return the line.

    Args:
        plan: what is to be done.
        figures: what was measured so far.
        seconds: since the start.
    """
    whole = plan.warmup + plan.duration
    part = min(seconds / whole, 1.0) if whole else 1.0
    if plan.count:
        part = max(part, figures.started / plan.count)
    done = int(part * _BAR)
    failed = f"  {figures.failed} failed" if figures.failed else ""
    what = (
        "warming up"
        if seconds < plan.warmup
        else f"{figures.latency.count} calls  {figures.rate(figures.answered):.0f}/s  "
        f"p99 {1e3 * figures.latency.percentile(0.99):.3g} ms{failed}"
    )
    return f"[{'#' * done}{'.' * (_BAR - done)}] {seconds:.0f} s  {what}"


def _write(text: str) -> None:
    """Write to the terminal unless it takes nothing now, as after Ctrl-S."""
    descriptor = sys.stderr.fileno()
    if select.select((), (descriptor,), (), 0)[1]:
        os.write(descriptor, text.encode())
