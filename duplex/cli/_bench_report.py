"""What a benchmark says at the end: as text, as JSON that a later run can be compared with, and in its exit code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._figures import Figures
from duplex.cli._histogram import Histogram
from duplex.cli._load import GRACE
from duplex.cli._report import STATUS_BASE, printable

#: Of the JSON, so that a later version knows what it reads.
FORMAT: Final = "duplex-bench/1"

#: From this part of a core on, this process may be what limits the figures.
_BUSY: Final = 0.85
#: Seconds that timers may be late before it is worth a note, at the 99th percentile.
_LATE: Final = 0.005
#: How often that must have been looked at, to say anything of the 99th percentile.
_LOOKS: Final = 100

_ROWS: Final = 12
_BAR: Final = 40
_COLUMNS: Final = {
    "latency": "latency",
    "first_item": "first item",
    "start_delay": "made late by",
    "failed_latency": "of failures",
}
#: What a comparison shows, by the path in the JSON, and what a value is divided by.
_COMPARED: Final = {
    "calls per second": ("rate", 1.0),
    "items received per second": ("items_received_per_second", 1.0),
    "items sent per second": ("items_sent_per_second", 1.0),
    "MiB sent per second": ("bytes_sent_per_second", 2.0**20),
    "MiB received per second": ("bytes_received_per_second", 2.0**20),
    **{
        f"latency {name}, ms": (f"latency.{name}", 1e-3)
        for name in ("min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max")
    },
    "first item p50, ms": ("first_item.p50", 1e-3),
    "first item p99, ms": ("first_item.p99", 1e-3),
    "failed calls": ("failed", 1.0),
}


def describe_run(figures: Figures, what: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about a run that is over, for JSON.

    Args:
        figures: what was measured.
        what: what was run, ``method`` and ``options`` among it.
    """
    return {
        "format": FORMAT,
        "duplex": duplex.__version__,
        **what,
        "seconds": figures.seconds,
        "calls": figures.started,
        "succeeded": figures.latency.count,
        "failed": figures.failed,
        "unfinished": figures.unfinished,
        "unsent": figures.unsent,
        "unsent_for": figures.unsent_for,
        "held_up": figures.held_up,
        "errors": {
            name: {"count": failures.count, "code": failures.code, "example": failures.example}
            for name, failures in figures.failures.items()
        },
        "rate": figures.rate(figures.answered),
        "items_sent_per_second": figures.rate(figures.items_sent),
        "items_received_per_second": figures.rate(figures.items_received),
        "bytes_sent_per_second": figures.rate(figures.bytes_sent),
        "bytes_received_per_second": figures.rate(figures.bytes_received),
        "latency": _plain(figures.latency),
        "failed_latency": _plain(figures.failed_latency),
        "first_item": _plain(figures.first_item),
        "start_delay": _plain(figures.start_delay),
        "client": {"cpu_share": figures.cpu_share, "loop_delay": _plain(figures.loop_delay)},
    }


def _plain(histogram: Histogram) -> dict[str, Any] | None:
    return {**histogram.summary(), "histogram": histogram.to_plain()} if histogram.count else None


def run_exit_code(run: Mapping[str, Any]) -> int:
    """Return 0 if no call failed, else that of the most frequent failure, as ``duplex call`` has it."""
    errors = list(run["errors"].values())
    if errors:
        return STATUS_BASE + int(max(errors, key=lambda failures: failures["count"])["code"])
    if run["unfinished"] and not run["interrupted"]:
        return STATUS_BASE + int(duplex.StatusCode.DEADLINE_EXCEEDED)
    return 0


def run_notes(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader of the figures has to know to believe them, a sentence each."""
    if run["unsent"]:
        yield (
            f"{run['unsent']} calls were due and not made, the first of them for {run['unsent_for']:.3g} s: "
            f"{run['rate']:.5g} calls/s were answered of {run['options']['rate']:g} asked for; the percentiles "
            f"leave them out"
        )
    if run["held_up"]:
        yield (
            f"{run['held_up']} calls had to wait because {run['options']['concurrency']} were under way already "
            f"(--concurrency), which is part of their latencies"
        )
    if run["unfinished"]:
        after = "when it was interrupted" if run["interrupted"] else f"{GRACE:g} s after the end"
        calls = "call" if run["unfinished"] == 1 else "calls"
        yield f"{run['unfinished']} {calls} had not ended {after}; the percentiles leave them out"
    if run["failed"]:
        yield "the latencies are those of calls that succeeded; those of failures stand apart"
    client = run["client"]
    if client["cpu_share"] >= _BUSY:
        yield (
            f"this client, one Python process, used {client['cpu_share']:.0%} of a core: it may be what limits "
            f"the figures"
        )
    delay = client["loop_delay"]
    if delay is not None and delay["histogram"]["count"] >= _LOOKS and delay["p99"] >= _LATE:
        yield (
            f"this client's event loop was up to {1e3 * delay['p99']:.3g} ms late (p99), which is part of the "
            f"latencies"
        )


# -- text ------------------------------------------------------------------------------------------------


def run_text(run: Mapping[str, Any]) -> str:
    """Return a report for people."""
    options = run["options"]
    how = (
        f"closed loop, {options['concurrency']} at once"
        if options["rate"] is None
        else f"open loop, {options['rate']:g} calls/s, at most {options['concurrency']} at once"
    )
    lines = [
        printable(f"{run['method']} at {run['peer']}: {run['kind']}"),
        f"{how}; {run['seconds']:.2f} s after {options['warmup']:g} s of warm-up",
        "",
        f"calls     {run['succeeded']} succeeded, {run['failed']} failed",
        f"rate      {run['rate']:.1f} calls/s",
        *_throughput(run),
        f"client    {run['client']['cpu_share']:.0%} of a core",
        "",
        *_table(run),
    ]
    for name, failures in sorted(run["errors"].items(), key=lambda pair: -pair[1]["count"]):
        lines += ["", f"{failures['count']} x {name}, such as:", printable(f"    {failures['example']}")]
    if run["latency"] is not None:
        lines += ["", *_chart(Histogram.from_plain(run["latency"]["histogram"]))]
    return "\n".join(lines)


def _throughput(run: Mapping[str, Any]) -> Iterator[str]:
    for what in ("sent", "received"):
        if run[f"items_{what}_per_second"]:
            yield f"items     {run[f'items_{what}_per_second']:.1f} items/s {what}"
        if run[f"bytes_{what}_per_second"]:
            yield f"bytes     {run[f'bytes_{what}_per_second'] / 2**20:.3f} MiB/s {what}"


def _table(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the percentiles of everything that was measured, in milliseconds."""
    columns = {title: run[key] for key, title in _COLUMNS.items() if run[key] is not None}
    if not columns:
        return
    yield "ms      " + "".join(f"{title:>14}" for title in columns)
    for name in next(iter(columns.values())):
        if name != "histogram":
            yield f"{name:8}" + "".join(f"{1e3 * summary[name]:14.3f}" for summary in columns.values())


def _chart(histogram: Histogram) -> Iterator[str]:
    """Yield a bar for every part of the range, on a logarithmic scale if it is wide."""
    low, high = max(histogram.minimum, 1e-9), max(histogram.maximum, 1e-9)
    wide = high / low > 4
    counts = [0] * _ROWS
    for lower, width, count in histogram.buckets():
        seconds = min(max((lower + (width - 1) / 2) / 1e9, low), high)
        if high == low:
            part = 0.0
        elif wide:
            part = math.log(seconds / low) / math.log(high / low)
        else:
            part = (seconds - low) / (high - low)
        counts[min(int(part * _ROWS), _ROWS - 1)] += count
    most = max(counts)
    for row, count in enumerate(counts):
        part = row / _ROWS
        start = low * (high / low) ** part if wide else low + part * (high - low)
        # Whatever there is shows, however little.
        bar = "#" * math.ceil(_BAR * count / most)
        yield f"{1e3 * start:10.3f} ms {count:9}  {bar}".rstrip()


# -- comparing -------------------------------------------------------------------------------------------


def read_run(path: str) -> dict[str, Any]:
    """Return an earlier run from a file.

    Raises:
        CommandError: it cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            run = msgspec.json.decode(file.read())
    except OSError as error:
        raise CommandError(f"--compare: cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CommandError(f"--compare: {path} is not JSON: {error}") from None
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise CommandError(f"--compare: {path} does not hold what `duplex bench -o json` writes")
    return run


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return what both runs measured: the values before and now, in the units of the JSON."""
    found = {}
    for path, _ in _COMPARED.values():
        values = [_look_up(run, path) for run in (before, now)]
        if None not in values and any(values):
            found[path] = {"before": values[0], "now": values[1]}
    return found


def _look_up(run: Any, path: str) -> Any:
    # The names of percentiles have dots in them.
    first, _, rest = path.partition(".")
    value = run.get(first)
    return value.get(rest) if rest and isinstance(value, dict) else value


def comparison_text(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a table of what changed, and first of all what the two runs did differently."""
    lines = [f"{'compared with ' + before['started']:40}{'before':>12}{'now':>12}{'change':>10}"]
    compared = compare(before, now)
    for label, (path, unit) in _COMPARED.items():
        if path in compared:
            old, new = compared[path]["before"], compared[path]["now"]
            change = f"{new / old - 1:+.1%}" if old else ""
            lines.append(f"{label:40}{_short(old / unit):>12}{_short(new / unit):>12}{change:>10}".rstrip())
    different = [*_differences(before, now)]
    return "\n".join([*lines, *(["the runs differ in " + ", ".join(different)] if different else [])])


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    pairs: Sequence[tuple[str, Any, Any]] = [
        ("method", before["method"], now["method"]),
        *((name, before["options"].get(name), value) for name, value in now["options"].items()),
    ]
    for name, old, new in pairs:
        if old != new:
            yield printable(f"{name} ({old} before, {new} now)")


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else f"{value:.0f}"
