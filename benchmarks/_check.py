"""``python -m benchmarks check``: fails on a real regression against a kept baseline.

Two things are compared, neither of which is a time:

- instructions of small programs within one process, as multiples of a program that uses no Duplex. They repeat to a
  percent, so little is allowed;
- figures divided by those of another peer, of one short run. They differ by tens of percent from run to run,
  so much is allowed: this finds what got slower by half without executing more instructions, such as one message
  for each command.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks._model import Better
from benchmarks._results import Results
from benchmarks.scenarios import FIGURES

FILE: Final = Path(__file__).parent / "baselines" / "check.json"
FORMAT: Final = 1

#: How many times the instructions of the baseline are allowed.
INSTRUCTIONS: Final = 1.04
#: How many times worse than in the baseline a ratio may be.
RATIO: Final = 1.8
#: The scenarios, the peers and the figures whose ratios are looked at.
SCENARIOS: Final = ("latency", "unary", "download", "upload", "echo")
PEER: Final = "duplex"
RATIOS: Final = {
    "latency.p50": "pyzmq",
    "unary.64": "pyzmq",
    "download.rate": "pyzmq",
    "upload.rate": "pyzmq",
    "echo.1MiB": "pyzmq",
}


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What was counted and measured when all was well."""

    #: Multiples of the reference by program.
    instructions: Mapping[str, float]
    #: Duplex divided by another peer by figure.
    ratios: Mapping[str, float]
    #: Where: for people, when it differs from here.
    python: str
    versions: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not one.
        """
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not a baseline of format {FORMAT}")
        return cls(**content)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One comparison with the baseline."""

    what: str
    before: float
    now: float
    #: How many times worse than the baseline it is: below 1 is better.
    worse: float
    allowed: float
    #: What repeats differ by, in parts of the median.
    spread: float | None = None

    @property
    def regressed(self) -> bool:
        return self.worse > self.allowed


def compare_instructions(baseline: Baseline, now: Mapping[str, list[float]]) -> Iterator[Finding]:
    """Compare multiples of the reference. A program that the baseline does not know is left out."""
    for name, before in baseline.instructions.items():
        if name in now:
            figure = statistics.median(now[name])
            spread = (max(now[name]) - min(now[name])) / figure
            yield Finding(f"instructions of {name}", before, figure, figure / before, INSTRUCTIONS, spread)


def compare_ratios(baseline: Baseline, results: Results) -> Iterator[Finding]:
    """Compare ratios to other peers, those that both have."""
    now = ratios(results)
    for name, before in baseline.ratios.items():
        if name in now:
            better = FIGURES[name].better
            worse = now[name] / before if better is Better.LOWER else before / now[name]
            yield Finding(f"{name} × {RATIOS[name]}", before, now[name], worse, RATIO)


def ratios(results: Results) -> dict[str, float]:
    """Return the ratios that are kept, of one run."""
    found = {name: results.ratio(PEER, name, base) for name, base in RATIOS.items()}
    return {name: ratio for name, ratio in found.items() if ratio is not None}
