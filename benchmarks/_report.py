"""What was measured, as text for people and as JSON for programs, with what one must know to read it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import PEERS
from benchmarks.scenarios import SCENARIOS, WARM_UP, Better

#: The peers that the others are compared with.
BASES: Final = ("grpc", "pyzmq")

#: What favours whom. Printed with every report; ``README.md`` says more.
BIAS: Final = tuple(
    """\
Client and server share one machine and the loopback interface: no network latency, and two busy processes \
compete for the cores.
The benchmarks belong to Duplex; nobody has tuned the other peers beyond what is stated here.
grpc runs generic handlers, with msgpack by msgspec for dicts and bytes as they are. There is no generated \
code and no protobuf, which is not what most users of gRPC run; the difference has not been measured.
pyzmq is a floor for a and d, not a rival: no event loop, no protocol, no flow control. In b and c each call \
and item is a message of its own there, while Duplex puts many into one.
Compare duplex-inline with the others only for handlers that never wait.
Only ratios within one run mean anything; differences below 25 % are noise.""".splitlines()
)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A figure that could not be had, and why."""

    peer: str
    scenario: str
    what: str
    stderr: str


@dataclasses.dataclass
class Results:
    """All figures of a run."""

    peers: list[str]
    scenarios: list[str]
    failures: list[Failure] = dataclasses.field(default_factory=list)
    _figures: dict[tuple[str, str], list[float]] = dataclasses.field(default_factory=dict)

    def add(self, peer: str, scenario: str, figure: float) -> None:
        """Note the figure of one repeat."""
        self._figures.setdefault((peer, scenario), []).append(figure)

    def figures(self, peer: str, scenario: str) -> Sequence[float]:
        """The figures of all repeats, in order."""
        return self._figures.get((peer, scenario), ())

    def median(self, peer: str, scenario: str) -> float | None:
        """The median of the repeats; ``None`` if there is none."""
        figures = self.figures(peer, scenario)
        return statistics.median(figures) if figures else None

    def ratio(self, peer: str, scenario: str, base: str) -> float | None:
        """A peer's median divided by another's; ``None`` if one is missing."""
        mine, other = self.median(peer, scenario), self.median(base, scenario)
        return mine / other if mine is not None and other else None

    def spread(self, peer: str, scenario: str) -> float | None:
        """The distance of the extremes in parts of the median; ``None`` with fewer than two figures."""
        figures = self.figures(peer, scenario)
        if len(figures) < 2:
            return None
        return (max(figures) - min(figures)) / statistics.median(figures)

    def failure(self, peer: str, scenario: str) -> Failure | None:
        """Why there is no figure, if there is a reason."""
        return next((f for f in self.failures if (f.peer, f.scenario) == (peer, scenario)), None)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Where and how the figures came about."""

    machine: str
    python: str
    versions: Mapping[str, str]
    #: Processes that wanted to run in the minute before the run; ``None`` where the system does not say.
    load: float | None
    repeats: int
    seconds: float


def conditions(peers: Iterable[str], *, repeats: int, seconds: float) -> Conditions:
    """Describe this machine and this environment, as they are before a run."""
    names = {name for peer in peers if peer in PEERS for name in PEERS[peer].distributions}
    return Conditions(
        machine=f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: _version(name) for name in sorted(names)},
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        repeats=repeats,
        seconds=seconds,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), "") or platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a distribution"


# -- text ----------------------------------------------------------------------------------------------


def text_report(results: Results, how: Conditions) -> str:
    """Return the report for people: tables, ratios, failures, conditions and bias."""
    parts = [_legend(results), _figures_table(results)]
    parts += [
        _ratio_table(results, base) for base in BASES if base in results.peers and len(results.peers) > 1
    ]
    parts += [_failure_text(failure) for failure in results.failures]
    parts += [_conditions_text(results, how), "Bias:\n" + "\n".join(f"- {line}" for line in BIAS)]
    return "\n\n".join(parts) + "\n"


def _legend(results: Results) -> str:
    return "\n".join(
        f"{key} = {SCENARIOS[key].title}, {SCENARIOS[key].unit} ({SCENARIOS[key].better.value})"
        for key in results.scenarios
    )


def _figures_table(results: Results) -> str:
    header = ["peer", *(f"{key} {SCENARIOS[key].unit}" for key in results.scenarios)]
    rows = [[peer, *(_cell(results, peer, key) for key in results.scenarios)] for peer in results.peers]
    return table([header, *rows])


def _cell(results: Results, peer: str, scenario: str) -> str:
    if results.failure(peer, scenario) is not None:
        return "failed"
    median = results.median(peer, scenario)
    return "–" if median is None else number(median)


def _ratio_table(results: Results, base: str) -> str:
    header = [f"× {base}", *results.scenarios]
    rows = []
    for peer in results.peers:
        if peer != base:
            ratios = [results.ratio(peer, key, base) for key in results.scenarios]
            rows.append([peer, *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    lower = [key for key in results.scenarios if SCENARIOS[key].better is Better.LOWER]
    note = f"\n({', '.join(lower)}: below 1 is faster; the others: above 1)" if lower else ""
    return table([header, *rows]) + note


def _failure_text(failure: Failure) -> str:
    lines = failure.stderr.splitlines() or ["(nothing on standard error)"]
    quoted = "\n".join(f"    {line}" for line in lines)
    return f"FAILED: {failure.peer} in scenario {failure.scenario}: {failure.what}\n{quoted}"


def _conditions_text(results: Results, how: Conditions) -> str:
    spreads = {
        f"{peer} {key}": spread
        for peer in results.peers
        for key in results.scenarios
        if (spread := results.spread(peer, key)) is not None
    }
    versions = ", ".join(f"{name} {version}" for name, version in how.versions.items())
    lines = [
        f"Medians of {how.repeats} interleaved repeats of {how.seconds:g} s; {WARM_UP:.0%} of that is warm-up.",
        f"{how.machine}; {how.python}; {versions}",
    ]
    if how.load is not None:
        lines.append(f"Load before the run: {how.load:.2f}.")
    if spreads:
        widest = max(spreads, key=spreads.__getitem__)
        lines.append(f"Largest distance between two repeats: {spreads[widest]:.0%} of the median ({widest}).")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure with as many digits as can be read: ``72.4``, ``1 234 567``."""
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}".replace(",", " ")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first to the left and the others to the right, under a header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


# -- JSON ----------------------------------------------------------------------------------------------


def json_report(results: Results, how: Conditions) -> dict[str, Any]:
    """Return the report for programs; every figure of every repeat is in it."""
    return {
        "conditions": dataclasses.asdict(how),
        "bias": list(BIAS),
        "scenarios": {
            key: {
                "title": SCENARIOS[key].title,
                "unit": SCENARIOS[key].unit,
                "better": SCENARIOS[key].better.name.lower(),
            }
            for key in results.scenarios
        },
        "figures": {
            peer: {
                key: {
                    "median": results.median(peer, key),
                    "repeats": list(results.figures(peer, key)),
                    "ratios": {
                        base: ratio
                        for base in BASES
                        if base != peer and (ratio := results.ratio(peer, key, base)) is not None
                    },
                }
                for key in results.scenarios
            }
            for peer in results.peers
        },
        "failures": [dataclasses.asdict(failure) for failure in results.failures],
    }
