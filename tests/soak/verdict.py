"""From what was measured to what it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

MiB: Final = 1024 * 1024
#: The part of a run at its beginning that is no measure of anything: caches fill, heaps find their size.
WARM_UP: Final = 0.2
#: A slope means something only over this many seconds.
SHORTEST: Final = 120.0


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What memory may do."""

    #: MiB a minute, fitted after the warm-up.
    slope: float = 1.0
    #: MiB, at any time.
    most: float = 300.0


@dataclasses.dataclass(frozen=True)
class Memory:
    """One long-lived process's resident memory, in MiB."""

    samples: int
    first: float
    last: float
    most: float
    #: MiB a minute after the warm-up; ``None`` if the run was too short to tell.
    slope: float | None


def slope_of(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line with the least squares."""
    count = len(samples)
    middle = sum(at for at, _ in samples) / count
    mean = sum(value for _, value in samples) / count
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (value - mean) for at, value in samples) / spread if spread else 0.0


def memory_of(samples: Sequence[tuple[float, float]], duration: float) -> Memory:
    """Sum up samples of (seconds, bytes)."""
    warm = [(at / 60, value / MiB) for at, value in samples if at >= duration * WARM_UP]
    values = [value / MiB for _, value in samples]
    slope = slope_of(warm) if duration >= SHORTEST else None
    return Memory(len(samples), warm[0][1], values[-1], max(values), slope)


def judge_memory(memory: Mapping[str, Memory], bounds: Bounds) -> list[str]:
    """Return what is wrong with it."""
    found = []
    for name, one in memory.items():
        if one.slope is not None and one.slope > bounds.slope:
            found.append(f"{name} grows by {one.slope:.2f} MiB a minute; {bounds.slope:g} are allowed")
        if one.most > bounds.most:
            found.append(f"{name} took {one.most:.0f} MiB; {bounds.most:g} are allowed")
    return found


def draw(
    samples: Mapping[str, Sequence[tuple[float, float]]], memory: Mapping[str, Memory], path: Path
) -> None:
    """Draw resident memory over time. Needs matplotlib: ``pip install duplex-rpc[soak]``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure: Any
    figure, axes = plt.subplots(figsize=(10, 5))
    for name, points in samples.items():
        slope = memory[name].slope
        told = "" if slope is None else f" ({slope:+.2f} MiB/min)"
        axes.plot(
            [at / 60 for at, _ in points],
            [value / MiB for _, value in points],
            label=name + told,
            linewidth=1,
        )
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(0, 1.3 * max(one.most for one in memory.values()))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    axes.set_title("Memory of the processes that live all along, under mixed load and faults")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
