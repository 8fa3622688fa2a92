"""What was measured, as tables: for a terminal and as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks._clocks import WARM_UP
from benchmarks._fits import FAMILIES, fit, points
from benchmarks._model import Better
from benchmarks._results import BIAS, Conditions, Failure, Results
from benchmarks._targets import APART, TARGETS, Target
from benchmarks.peers import ABILITIES, OWN, PEERS, Entry
from benchmarks.scenarios import FIGURES, SCENARIOS

#: The peers that the others are compared with, unless others are named.
BASES: Final = ("grpc", "aiozmq", "pyzmq")
#: Figures side by side, or a line would be too long for a terminal.
_COLUMNS: Final = 5


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, and what is to be said below it. The first column is text, the others are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Return a figure with as many digits as can be read: ``0.274``, ``72.4``, ``1 234 567``."""
    if abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def tables(results: Results, bases: Sequence[str]) -> Iterator[Table]:
    """Give the tables of a report: targets, then figures and their ratios by scenario, then fits."""
    yield targets_table(results)
    for scenario in results.scenarios:
        yield from _scenario_tables(results, scenario, bases)
    fits = _fits_table(results)
    if fits.rows:
        yield fits


def targets_table(results: Results) -> Table:
    """Return each target with what this run says of it."""
    rows = []
    for target in TARGETS:
        value, state = target.state(results)
        figure = "–" if value is None else f"{number(value)} {target.unit}".strip()
        relation = {"<=": "≤", ">=": "≥"}[target.relation]
        bound = f"{relation} {number(target.bound)} {target.unit}".strip()
        rows.append([target.title, str(target.expression), bound, figure, _range(target, results), state])
    header = ["target", "expression", "bound", "figure", "of single repeats", ""]
    return Table("Targets", header, rows)


def _range(target: Target, results: Results) -> str:
    """Return the least and the greatest value that the repeats give by themselves."""
    values = [target.expression.value(results.repeat(number)) for number in range(results.repeats)]
    known = [value for value in values if value is not None]
    return f"{number(min(known))} to {number(max(known))}" if len(known) > 1 else ""


def _scenario_tables(results: Results, scenario: str, bases: Sequence[str]) -> Iterator[Table]:
    names = [name for name in results.names if name.startswith(f"{scenario}.")]
    peers = [
        peer
        for peer in results.peers
        if any(results.figures(peer, name) for name in names) or results.failure(peer, scenario)
    ]
    if not peers:
        return
    legend = [f"{name.partition('.')[2]}: {_explain(name)}" for name in names]
    for start in range(0, max(1, len(names)), _COLUMNS):
        part = names[start : start + _COLUMNS]
        header = ["peer", *(_heading(name) for name in part)]
        rows = [[peer, *(_cell(results, peer, name, scenario) for name in part)] for peer in peers]
        title = f"{scenario}: {SCENARIOS[scenario].title}"
        yield Table(title if not start else f"{scenario}, continued", header, rows, legend)
        legend = []
        for base in _bases_of(results, part, bases):
            ratios = [
                [peer, *(_ratio(results, peer, name, base) for name in part)]
                for peer in peers
                if peer != base
            ]
            if any(cell != "–" for row in ratios for cell in row[1:]):
                yield Table(f"{scenario}, × {base}", ["peer", *map(_short, part)], ratios)


def _bases_of(results: Results, names: Sequence[str], bases: Sequence[str]) -> Sequence[str]:
    """Return the bases that have any of these figures, or the first other peer that does if there is none."""
    having = [peer for peer in results.peers if any(results.median(peer, name) is not None for name in names)]
    found = [base for base in bases if base in having]
    return found or [peer for peer in having if peer not in APART][:1]


def _explain(name: str) -> str:
    figure = FIGURES[name]
    return f"{figure.title}, {figure.unit} ({figure.better.value})"


def _short(name: str) -> str:
    return name.partition(".")[2] + (" ↓" if FIGURES[name].better is Better.LOWER else " ↑")


def _heading(name: str) -> str:
    return f"{name.partition('.')[2]} {FIGURES[name].unit}"


def _cell(results: Results, peer: str, name: str, scenario: str) -> str:
    if results.failure(peer, scenario) is not None:
        return "failed"
    median, spread = results.median(peer, name), results.spread(peer, name)
    if median is None:
        return "–"
    return number(median) if spread is None else f"{number(median)} ±{spread / 2:.0%}"


def _ratio(results: Results, peer: str, name: str, base: str) -> str:
    ratio = results.ratio(peer, name, base)
    return "–" if ratio is None else f"{ratio:.2f}"


def _fits_table(results: Results) -> Table:
    rows = []
    for family, title in FAMILIES.items():
        for peer in results.peers:
            found = fit(points(results, peer, family))
            if found is not None:
                rows.append([title, peer, f"{found.exponent:+.3f}", f"{found.explained:.2f}"])
    notes = ["an exponent of 0: does not grow; 1: grows in proportion; of a rate, -1 means n times as slow"]
    return Table("Scaling: exponents fitted to decades", ["figure", "peer", "exponent", "R²"], rows, notes)


def remarks(results: Results, how: Conditions) -> Iterator[str]:
    """Give what one must know to read the tables, a paragraph each."""
    for peer, reason in results.missing.items():
        yield f"MISSING: {peer}: {reason}"
    for failure in results.failures:
        yield _failure_text(failure)
    known = [PEERS[peer] for peer in results.peers if peer in PEERS]
    yield "Peers: " + "; ".join(f"{entry.name}: {entry.title}" for entry in known) + "."
    lacking = [f"{entry.name}: {', '.join(lacks)}" for entry in known if (lacks := _lacks(entry))]
    if lacking:
        yield "Not measured, for the reasons in README.md: " + "; ".join(lacking) + "."
    yield "– where a peer has no such thing, or no figure was had."
    yield (
        f"Medians of {how.repeats} interleaved repeats of {how.seconds:g} s a figure; {WARM_UP:.0%} of that is "
        "warm-up. ± is half the distance of the extremes, in parts of the median."
    )
    if how.pinned:
        yield "Servers were tied to one core, clients to another."
    versions = ", ".join(f"{name} {version}" for name, version in how.versions.items())
    yield f"{how.when}; {how.machine}; {how.python}; {versions}."
    if how.load is not None:
        yield f"Load before the run: {how.load:.2f}."
    yield "Bias:\n" + "\n".join(f"- {line}" for line in BIAS)


def _lacks(entry: Entry) -> list[str]:
    """Return what a peer is not asked for, apart from what is Duplex's own."""
    return [ability for ability in ABILITIES if ability not in entry.abilities and ability not in OWN]


def _failure_text(failure: Failure) -> str:
    lines = failure.stderr.splitlines() or ["(nothing on standard error)"]
    quoted = "\n".join(f"    {line}" for line in lines)
    return f"FAILED: {failure.peer} in scenario {failure.scenario}: {failure.what}\n\n{quoted}"


# -- output --------------------------------------------------------------------------------------------


def show(results: Results, how: Conditions, console: Console, bases: Sequence[str] = BASES) -> None:
    """Print a report on a terminal, or wherever the console writes."""
    for table in tables(results, bases):
        show_table(table, console)
    for remark in remarks(results, how):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
        console.print()


def show_table(table: Table, console: Console) -> None:
    """Print one table."""
    console.print(table.title, style="bold", markup=False, highlight=False, soft_wrap=True)
    rich = RichTable(box=None, pad_edge=False)
    for index, heading in enumerate(table.header):
        rich.add_column(heading, justify="right" if index else "left", overflow="fold")
    for row in table.rows:
        style = {"NOT MET": "red", "met": "green"}.get(row[-1])
        rich.add_row(*row, style=style)
    console.print(rich)
    for note in table.notes:
        console.print(f"  {note}", style="dim", markup=False, highlight=False, soft_wrap=True)
    console.print()


def markdown(results: Results, how: Conditions, bases: Sequence[str] = BASES) -> str:
    """Return a report as Markdown."""
    parts = ["# Benchmarks"]
    for table in tables(results, bases):
        parts.append(f"## {table.title}")
        parts.append(markdown_table(table))
        parts.extend(f"- {note}" for note in table.notes)
    parts.append("## Reading this")
    parts.extend(remarks(results, how))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Return one table as Markdown, without title and notes."""
    lines = [
        _markdown_row(table.header),
        _markdown_row(["---" if index == 0 else "---:" for index in range(len(table.header))]),
        *(_markdown_row(row) for row in table.rows),
    ]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
