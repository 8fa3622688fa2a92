"""What was measured: figures of all repeats, failures, and the conditions under which they came about."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks._histogram import Histogram
from benchmarks.peers import PEERS
from benchmarks.scenarios import FIGURES, SCENARIOS

#: Of the files that hold results.
FORMAT: Final = 2

#: What favours whom. Printed with every report; ``README.md`` says more.
BIAS: Final = tuple(
    """\
Client and server share one machine and the loopback interface: no network latency, and two busy processes \
compete for the cores.
The benchmarks belong to Duplex, which chose the scenarios; the other peers run with their defaults, but for what \
README.md states.
grpc runs generic handlers, with msgpack by msgspec for dicts and bytes as they are: no generated code and no \
protobuf, which is not what most users of gRPC run.
rpyc and pyro5 have one call in flight a connection: with 64 in flight they use 64 connections and threads.
nats has a third process between the two. http sends JSON, where the others send msgpack or Cap'n Proto.
pyzmq and tcp are floors, not rivals: no event loop, no protocol, no flow control, no errors. Each call and item \
is a message of its own there, while Duplex puts many into one. trio-pyzmq is a floor too, which has the event loop \
and the batches and none of the rest.
Compare duplex-inline with the others only for handlers that never wait.
Only ratios within one run mean anything; differences below 25 % are noise.""".splitlines()
)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Figures that could not be had, and why."""

    peer: str
    scenario: str
    what: str
    stderr: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run of a scenario gave."""

    figures: Mapping[str, float]
    histograms: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Results:
    """All figures of a run. A figure is named in full, as in ``latency.p50``."""

    peers: list[str]
    scenarios: list[str]
    #: Peers that were asked for and could not run, and why.
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    _figures: dict[tuple[str, str], list[float]] = dataclasses.field(default_factory=dict)
    _histograms: dict[tuple[str, str], Histogram] = dataclasses.field(default_factory=dict)

    def add(self, peer: str, scenario: str, outcome: Outcome) -> None:
        """Note what one repeat gave."""
        for name, value in outcome.figures.items():
            self._figures.setdefault((peer, f"{scenario}.{name}"), []).append(value)
        for name, counts in outcome.histograms.items():
            whole = self._histograms.setdefault((peer, f"{scenario}.{name}"), Histogram())
            whole.add(Histogram(counts))

    @property
    def names(self) -> list[str]:
        """The figures that somebody has, in the order of the scenarios."""
        have = {name for _, name in self._figures}
        return [
            name
            for name in FIGURES
            if name in have or any(self._of_all_repeats(peer, name) is not None for peer in self.peers)
        ]

    def figures(self, peer: str, name: str) -> Sequence[float]:
        """The figures of all repeats, in order; none where one of them failed."""
        if self.failure(peer, name.partition(".")[0]) is not None:
            return ()
        return self._figures.get((peer, name), ())

    def histogram(self, peer: str, name: str) -> Histogram | None:
        """The latencies of all repeats together."""
        return self._histograms.get((peer, name))

    def median(self, peer: str, name: str) -> float | None:
        """The median of the repeats, or a percentile of what all of them recorded; ``None`` if there is none."""
        if self.failure(peer, name.partition(".")[0]) is not None:
            return None
        if FIGURES[name].percentile is not None:
            return self._of_all_repeats(peer, name)
        figures = self.figures(peer, name)
        return statistics.median(figures) if figures else None

    def _of_all_repeats(self, peer: str, name: str) -> float | None:
        percentile = FIGURES[name].percentile
        if percentile is None:
            return None
        histogram_name, percent = percentile
        histogram = self.histogram(peer, f"{name.partition('.')[0]}.{histogram_name}")
        seconds = None if histogram is None else histogram.percentile(percent)
        return None if seconds is None else seconds * 1e6

    @property
    def repeats(self) -> int:
        """How many repeats there are."""
        return max((len(figures) for figures in self._figures.values()), default=0)

    def repeat(self, number: int) -> Results:
        """Return the figures of one repeat only, the first being 0."""
        alone = Results(self.peers, self.scenarios, self.missing, self.failures)
        alone._figures = {key: values[number : number + 1] for key, values in self._figures.items()}
        return alone

    def ratio(self, peer: str, name: str, base: str) -> float | None:
        """A peer's median divided by another's; ``None`` if one is missing."""
        mine, other = self.median(peer, name), self.median(base, name)
        return mine / other if mine is not None and other else None

    def spread(self, peer: str, name: str) -> float | None:
        """The distance of the extremes in parts of the median; ``None`` with fewer than two figures."""
        figures = self.figures(peer, name)
        median = statistics.median(figures) if len(figures) > 1 else 0
        return (max(figures) - min(figures)) / abs(median) if median else None

    def failure(self, peer: str, scenario: str) -> Failure | None:
        """Why there is no figure, if there is a reason."""
        return next((f for f in self.failures if (f.peer, f.scenario) == (peer, scenario)), None)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Where and how the figures came about."""

    when: str
    machine: str
    python: str
    versions: Mapping[str, str]
    #: Processes that wanted to run in the minute before the run; ``None`` where the system does not say.
    load: float | None
    repeats: int
    seconds: float
    #: Whether servers were tied to one core and clients to another.
    pinned: bool = False


def conditions(peers: Iterable[str], *, repeats: int, seconds: float, pinned: bool = False) -> Conditions:
    """Describe this machine and this environment, as they are before a run."""
    names = {name for peer in peers if peer in PEERS for name in PEERS[peer].distributions}
    return Conditions(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: _version(name) for name in sorted(names)},
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        repeats=repeats,
        seconds=seconds,
        pinned=pinned,
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


# -- files ---------------------------------------------------------------------------------------------


def to_json(results: Results, how: Conditions) -> dict[str, Any]:
    """Return everything, every figure of every repeat included."""
    return {
        "format": FORMAT,
        "conditions": dataclasses.asdict(how),
        "bias": list(BIAS),
        "scenarios": {name: SCENARIOS[name].title for name in results.scenarios},
        "units": {name: FIGURES[name].unit for name in results.names},
        "better": {name: FIGURES[name].better.name.lower() for name in results.names},
        "peers": results.peers,
        "missing": results.missing,
        "medians": {
            peer: {
                name: median for name in results.names if (median := results.median(peer, name)) is not None
            }
            for peer in results.peers
        },
        "repeats": {
            peer: {
                name: list(results._figures[peer, name])
                for name in results.names
                if results._figures.get((peer, name))
            }
            for peer in results.peers
        },
        "histograms": {
            peer: {name: h.to_json() for (who, name), h in results._histograms.items() if who == peer}
            for peer in results.peers
        },
        "failures": [dataclasses.asdict(failure) for failure in results.failures],
    }


def from_json(report: Mapping[str, Any]) -> tuple[Results, Conditions]:
    """Return what :func:`to_json` was given.

    Raises:
        ValueError: this is not such a report.
    """
    if report.get("format") != FORMAT:
        raise ValueError(f"not a report of format {FORMAT}")
    results = Results(
        list(report["peers"]),
        list(report["scenarios"]),
        dict(report["missing"]),
        [Failure(**failure) for failure in report["failures"]],
    )
    for peer, figures in report["repeats"].items():
        for name, values in figures.items():
            results._figures[peer, name] = list(values)
    for peer, histograms in report["histograms"].items():
        for name, counts in histograms.items():
            results._histograms[peer, name] = Histogram(counts)
    return results, Conditions(**report["conditions"])


def load(path: Path) -> tuple[Results, Conditions]:
    """Read a report.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a report.
    """
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a report: {error!r}") from error
