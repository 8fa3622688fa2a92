"""Two reports beside each other: what became better or worse, and whether that is more than noise.

Absolute figures of two runs also differ by how busy the machine was, which meets all peers alike. So beside the
plain quotient there is one that is freed of it: divided by the median quotient of the peers other than
Duplex for the same figure.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Final, Literal

from benchmarks._model import Better
from benchmarks._report import Table, number
from benchmarks._results import Conditions, Results
from benchmarks.scenarios import FIGURES

#: Differences that are never called more than noise, in parts of a figure.
NOISE: Final = 0.25

Verdict = Literal["better", "worse", "same"]


@dataclasses.dataclass(frozen=True)
class Change:
    """One figure of one peer in both runs."""

    peer: str
    name: str
    before: float
    after: float
    #: How the figure of the other peers changed; ``None`` if there are none in both runs.
    drift: float | None
    #: What two repeats differed by within a run, in parts of the median.
    noise: float

    @property
    def relative(self) -> float:
        """How it changed beside the other peers, or by itself where there are none."""
        return self.after / self.before / (self.drift or 1)

    @property
    def verdict(self) -> Verdict:
        """Whether that is good or bad, if it is more than noise."""
        gain = self.relative if FIGURES[self.name].better is Better.HIGHER else 1 / self.relative
        allowed = 1 + max(NOISE, self.noise)
        return "better" if gain > allowed else "worse" if gain < 1 / allowed else "same"


def changes(before: Results, after: Results) -> Iterator[Change]:
    """Give every figure that both runs have, in the order of the scenarios."""
    common = [peer for peer in before.peers if peer in after.peers]
    for name in before.names:
        for peer in common:
            one, other = before.median(peer, name), after.median(peer, name)
            if one and other:
                noise = max(before.spread(peer, name) or 0, after.spread(peer, name) or 0)
                yield Change(peer, name, one, other, _drift(before, after, common, peer, name), noise)


def _drift(before: Results, after: Results, common: list[str], peer: str, name: str) -> float | None:
    quotients = []
    for other in common:
        if other != peer and not other.startswith("duplex"):
            one, two = before.median(other, name), after.median(other, name)
            if one and two:
                quotients.append(two / one)
    return statistics.median(quotients) if quotients else None


def comparison(before: Results, after: Results) -> Table:
    """Return the changes as a table; those of Duplex first, as they are what one looks for."""
    found = sorted(changes(before, after), key=lambda change: not change.peer.startswith("duplex"))
    rows = [
        [
            f"{change.peer} {change.name}",
            number(change.before),
            number(change.after),
            f"{change.after / change.before:.2f}",
            "–" if change.drift is None else f"{change.relative:.2f}",
            f"±{change.noise / 2:.0%}",
            "" if change.verdict == "same" else change.verdict,
        ]
        for change in found
    ]
    header = ["figure", "before", "after", "after / before", "beside others", "spread", ""]
    notes = [
        "beside others: after / before, divided by the median of that of the other peers",
        f"better, worse: by more than the repeats differ, and by more than {NOISE:.0%}",
    ]
    return Table("Comparison", header, rows, notes)


def missing_in_one(before: Results, after: Results) -> Iterator[str]:
    """Say what only one of the runs has, which the table cannot show."""
    for what, here, there in (("before", before, after), ("after", after, before)):
        for peer in here.peers:
            names = [name for name in here.names if here.median(peer, name) is not None]
            alone = [name for name in names if there.median(peer, name) is None]
            if alone:
                some = f"all {len(alone)} figures" if len(alone) == len(names) else ", ".join(alone)
                yield f"only {what}: {peer}: {some}"
    for failure in after.failures:
        yield f"failed after: {failure.peer} in {failure.scenario}: {failure.what}"


def differences(before: Conditions, after: Conditions) -> Iterator[str]:
    """Say what was not the same about the conditions of the runs, apart from when they were."""
    one, other = dataclasses.asdict(before), dataclasses.asdict(after)
    for field in ("machine", "python", "repeats", "seconds", "pinned", "versions"):
        if one[field] != other[field]:
            yield f"not the same conditions: {field} was {one[field]}, then {other[field]}"
