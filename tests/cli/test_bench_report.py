"""What the report of a benchmark says of figures, in the cases that are hard to bring about."""

from __future__ import annotations

from typing import Any

import pytest

import duplex
from duplex.cli._bench_report import (
    compare,
    comparison_text,
    describe_run,
    run_exit_code,
    run_notes,
    run_text,
)
from duplex.cli._figures import Figures
from duplex.cli._load import Plan
from duplex.cli._progress import progress_line


def a_run(figures: Figures, *, interrupted: bool = False, rate: float | None = None) -> dict[str, Any]:
    """A run with these figures."""
    options = {"concurrency": 2, "rate": rate, "warmup": 1.0}
    what = {"method": "a.b", "kind": "unary", "peer": "a\x1b[1m", "started": "2020-01-02", "options": options}
    return describe_run(figures, {**what, "interrupted": interrupted})


def figures_of(*latencies: float) -> Figures:
    """Figures of calls that ended well."""
    figures = Figures(started=len(latencies))
    for latency in latencies:
        figures.latency.record(latency)
    return figures


def notes(figures: Figures, **options: Any) -> str:
    """All notes on figures."""
    return "\n".join(run_notes(a_run(figures, **options)))


def test_figures_that_can_be_trusted_need_no_notes() -> None:
    assert notes(figures_of(0.1, 0.2)) == ""


def test_what_the_percentiles_leave_out_is_said() -> None:
    figures = figures_of(0.1)
    figures.unsent, figures.unsent_for, figures.held_up = 7, 1.5, 3
    figures.started += 1
    figures.failure(duplex.NotFound("no"), 0.1)
    figures.started += 2
    said = notes(figures, rate=10.0)
    assert "7 calls were due and not made, the first of them for 1.5 s" in said
    assert "of 10 asked for" in said
    assert "3 calls had to wait because 2 were under way already" in said
    assert "2 calls had not ended 10 s after the end" in said
    assert "latencies are those of calls that succeeded" in said
    assert "had not ended when it was interrupted" in notes(figures, interrupted=True, rate=10.0)


def test_a_client_that_is_the_bottleneck_says_so() -> None:
    figures = figures_of(0.1)
    for _ in range(99):
        figures.loop_delay.record(0.02)
    assert "late" not in notes(figures)  # so few say nothing of a percentile
    figures.loop_delay.record(0.02)
    run = a_run(figures)
    run["client"]["cpu_share"] = 0.97
    said = "\n".join(run_notes(run))
    assert "used 97% of a core" in said
    assert "event loop was up to 20 ms late" in said


def test_exit_codes() -> None:
    figures = figures_of(0.1)
    assert run_exit_code(a_run(figures)) == 0
    figures.started += 1
    assert run_exit_code(a_run(figures, interrupted=True)) == 0
    assert run_exit_code(a_run(figures)) == 68
    figures.started += 3
    for error in (duplex.NotFound("x"), duplex.Unavailable("x"), duplex.Unavailable("x")):
        figures.failure(error, 0.1)
    assert run_exit_code(a_run(figures)) == 78


@pytest.mark.parametrize(
    "latencies", [[], [0.1], [0.1, 0.1], [0.0, 0.0], [0.1, 0.11], [0.0, 100.0], [0.001, 9.0]]
)
def test_every_call_is_in_the_chart(latencies: list[float]) -> None:
    text = run_text(a_run(figures_of(*latencies)))
    assert sum(line.count("#") > 0 for line in text.splitlines()) == len(set(latencies))
    rows = [line.split() for line in text.splitlines() if " ms " in line and line.startswith(" ")]
    assert sum(int(row[2]) for row in rows) == len(latencies)


def test_nothing_of_the_other_side_reaches_the_terminal_as_it_is() -> None:
    assert "\x1b" not in run_text(a_run(figures_of(0.1)))


def test_a_comparison_shows_what_both_have() -> None:
    before, now = a_run(figures_of(0.1)), a_run(figures_of(0.2))
    assert compare(before, now)["latency.min"] == {"before": 0.1, "now": 0.2}
    text = comparison_text(before, now)
    assert "+100.0%" in text
    assert "items" not in text
    assert "differ" not in text
    assert compare(before, a_run(Figures())) == {}


def test_the_progress_line() -> None:
    plan = Plan(duration=9, warmup=1)
    assert progress_line(plan, Figures(), 0.5) == "[#.......................] 0 s  warming up"
    figures = figures_of(0.1)
    figures.failure(duplex.NotFound("x"), 0.1)
    line = progress_line(plan, figures, 5)
    assert line.startswith("[############............] 5 s  1 calls")
    assert line.endswith("1 failed")
    assert progress_line(Plan(count=1), figures_of(0.1), 5).startswith("[########################]")
