"""Plots of a report: throughput, latency curves, scaling. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks._fits import FAMILIES, points
from benchmarks._payloads import SIZES
from benchmarks._results import Results
from benchmarks.scenarios import FIGURES, SCENARIOS
from benchmarks.scenarios.links import LINKS
from benchmarks.scenarios.open_loop import RATES
from benchmarks.scenarios.throughput import IN_FLIGHT

#: Points by peer.
Series = Mapping[str, Sequence[tuple[float, float]]]

#: Figures shown as bars, one panel each.
_BARS: Final = (
    "latency.p50",
    "unary.64",
    "download.rate",
    "upload.rate",
    "bidi.rate",
    "echo.1MiB",
    "callbacks.rate",
    "memory.link",
)


def plot_all(results: Results, directory: Path, stem: str) -> list[Path]:
    """Write what there are figures for as PNG files, and return their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    for name, draw in _plots(results):
        figure = draw(plt)
        path = directory / f"{stem}-{name}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        written.append(path)
    return written


def _plots(results: Results) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    have = set(results.names)
    bars = [name for name in _BARS if name in have]
    if bars:
        yield "overview", partial(_bars, results, bars)
    lines: Mapping[str, tuple[Mapping[int, str], str]] = {
        "in-flight": ({n: f"unary.{n}" for n in IN_FLIGHT}, "calls in flight"),
        "links": ({n: f"links.one-{n}" for n in LINKS}, "links, calls on one"),
        "links-all": ({n: f"links.all-{n}" for n in LINKS}, "links, calls on all in turn"),
    }
    for stem, (names, label) in lines.items():
        series = _series(results, names)
        if any(series.values()):
            yield stem, partial(_lines, series, label, "calls/s")
    for scenario in ("echo", "array"):
        series = _series(results, {size: f"{scenario}.{name}" for name, size in SIZES.items()})
        if any(series.values()):
            label = f"bytes ({SCENARIOS[scenario].title})"
            yield scenario, partial(_lines, series, label, "MB/s")
    for rate in RATES:
        if any(results.histogram(peer, f"open-loop.{rate}") for peer in results.peers):
            yield f"open-loop-{rate}", partial(_latencies, results, rate)
    for family, title in FAMILIES.items():
        series = {peer: points(results, peer, family) for peer in results.peers}
        if any(series.values()):
            unit = next(FIGURES[name].unit for name in FIGURES if name.startswith(f"{family}-"))
            name = family.replace(".", "-")
            yield name, partial(_lines, series, title, unit)


def _series(results: Results, names: Mapping[int, str]) -> Series:
    """Return for each peer the points (key, median of the figure that is named for it)."""
    return {
        peer: [(x, median) for x, name in names.items() if (median := results.median(peer, name)) is not None]
        for peer in results.peers
    }


def _bars(results: Results, names: Sequence[str], plt: Any) -> Any:
    rows = math.ceil(len(names) / 2)
    height = 1 + 0.25 * len(results.peers)
    figure, axes = plt.subplots(rows, 2, figsize=(12, height * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        have = [peer for peer in reversed(results.peers) if results.figures(peer, name)]
        medians = [results.median(peer, name) for peer in have]
        colours = ["tab:blue" if peer.startswith("duplex") else "tab:gray" for peer in have]
        axis.bar_label(axis.barh(have, medians, color=colours), fmt="{:,.0f}", fontsize=7, padding=2)
        axis.set_title(f"{name}, {FIGURES[name].unit} ({FIGURES[name].better.value})", fontsize=9)
    figure.tight_layout()
    return figure


def _lines(series: Series, x_label: str, y_label: str, plt: Any) -> Any:
    figure, axis = plt.subplots(figsize=(9, 6))
    axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)  # ten are not enough for all peers
    for peer, values in series.items():
        if values:
            style = {"linewidth": 2.5} if peer.startswith("duplex") else {"linewidth": 1, "alpha": 0.8}
            axis.plot(*zip(*values, strict=True), marker="o", markersize=3, label=peer, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend(fontsize=8)
    return figure


def _latencies(results: Results, rate: int, plt: Any) -> Any:
    """Latency over percentile, the axis stretched towards 100 % as is usual for such curves."""
    figure, axis = plt.subplots(figsize=(9, 6))
    axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)  # ten are not enough for all peers
    for peer in results.peers:
        histogram = results.histogram(peer, f"open-loop.{rate}")
        if histogram is None or not histogram.count:
            continue
        top = 100 - 100 / histogram.count
        curve = [(100 / (100 - min(percent, top)), latency * 1e6) for percent, latency in histogram.curve()]
        axis.plot(*zip(*curve, strict=True), label=peer, linewidth=2 if peer.startswith("duplex") else 1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([1, 2, 10, 100, 1000, 10_000], ["0", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"])
    axis.set_ylabel("µs after the time at which the call should have begun")
    axis.set_title(f"{rate} calls/s begun at fixed times", fontsize=10)
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend(fontsize=8)
    return figure
