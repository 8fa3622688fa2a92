"""The report: how it looks on a terminal and as Markdown, and which plots there are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks._histogram import Histogram
from benchmarks._plots import _plots
from benchmarks._report import markdown, number, show, tables
from benchmarks._results import BIAS, Conditions, Outcome, Results
from benchmarks._targets import TARGETS

BASES = ["grpc"]


def text_of(results: Results, how: Conditions) -> str:
    file = io.StringIO()
    show(results, how, Console(file=file, width=200), BASES)
    return file.getvalue()


def lines_after(text: str, title: str) -> list[str]:
    return text.partition(f"{title}\n")[2].partition("\n\n")[0].splitlines()


def test_figures_with_spread(results: Results, how: Conditions) -> None:
    found = lines_after(
        text_of(results, how), "latency: one unary call after the other, a small dict each way"
    )
    assert [line.split() for line in found] == [
        ["peer", "p50", "µs", "p99", "µs"],
        ["duplex", "110.0", "±9%", "300.0", "±0%"],
        ["grpc", "440.0", "±2%", "–"],
        ["pyzmq", "55.0", "±0%", "–"],
        ["p50:", "half", "of", "the", "calls", "took", "no", "longer,", "µs", "(lower", "is", "better)"],
        ["p99:", "99", "%", "of", "the", "calls", "took", "no", "longer,", "µs", "(lower", "is", "better)"],
    ]


def test_ratios(results: Results, how: Conditions) -> None:
    assert [line.split() for line in lines_after(text_of(results, how), "latency, × grpc")] == [
        ["peer", "p50", "↓", "p99", "↓"],
        ["duplex", "0.25", "–"],
        ["pyzmq", "0.12", "–"],
    ]


def test_failures_missing_peers_conditions_and_bias_are_told(results: Results, how: Conditions) -> None:
    text = text_of(results, how)
    assert "MISSING: nats: it needs a broker" in text
    assert "FAILED: pyzmq in scenario download: the server ended" in text
    assert "    OSError" in text
    for part in ("3 interleaved repeats of 2 s", how.machine, how.python, "pyzmq 27.0", "0.50", *BIAS):
        assert part in text
    assert [line.split() for line in lines_after(text, "download, × grpc")][1] == ["duplex", "10.00"]
    assert "failed" in text


def test_targets_come_first(results: Results, how: Conditions) -> None:
    first = lines_after(text_of(results, how), "Targets")
    assert len(first) == len(TARGETS) + 1
    assert "not measured" in first[-1]


def test_figures_that_no_base_has_are_told_as_ratios_to_another_peer(how: Conditions) -> None:
    results = Results(["duplex", "grpc", "rpyc", "pyro5"], ["callbacks"])
    for peer, figure in (("duplex", 100.0), ("rpyc", 400.0), ("pyro5", 200.0)):
        results.add(peer, "callbacks", Outcome({"time": figure}))
    assert [line.split() for line in lines_after(text_of(results, how), "callbacks, × rpyc")] == [
        ["peer", "time", "↓"],
        ["duplex", "0.25"],
        ["pyro5", "0.50"],
    ]


def test_what_a_peer_is_not_asked_for_is_told(results: Results, how: Conditions) -> None:
    text = text_of(results, how)
    assert "Not measured, for the reasons in README.md: grpc: callbacks; pyzmq: open-loop, " in text


def test_many_figures_are_shown_a_few_at_a_time(how: Conditions) -> None:
    results = Results(["duplex"], ["links"])
    outcome = {f"{which}-{number}": 10.0 for which in ("one", "all") for number in (1, 10, 200, 1000)}
    results.add("duplex", "links", Outcome(outcome))
    shown = [table for table in tables(results, BASES) if table.title.startswith("links")]
    assert [len(table.header) for table in shown] == [6, 4]
    assert shown[1].title == "links, continued"


def test_fits_are_shown(how: Conditions) -> None:
    results = Results(["duplex"], ["scaling-links"])
    for decade in (1, 10, 100, 1000):
        results.add("duplex", "scaling-links", Outcome({f"rate-{decade}": 100 / decade}))
    *_, fits = tables(results, BASES)
    assert list(fits.rows) == [["calls/s as links grow", "duplex", "-1.000", "1.00"]]


def test_markdown(results: Results, how: Conditions) -> None:
    text = markdown(results, how, BASES)
    assert text.startswith("# Benchmarks\n\n## Targets\n\n| target | expression |")
    assert "| duplex | 110.0 ±9% | 300.0 ±0% |" in text
    assert "| --- | ---: | ---: |" in text
    assert "FAILED: pyzmq" in text


def test_plots_of_what_was_measured(results: Results, latencies: Histogram) -> None:
    assert [name for name, _ in _plots(results)] == ["overview"]
    results.add("duplex", "unary", Outcome({"1": 100.0, "64": 6400.0}))
    results.add("duplex", "open-loop", Outcome({}, {"1000": latencies.to_json()}))
    results.add("duplex", "echo", Outcome({"1KiB": 10.0}))
    results.add("duplex", "scaling-payload", Outcome({"time-100": 10.0}))
    assert [name for name, _ in _plots(results)] == [
        "overview",
        "in-flight",
        "echo",
        "open-loop-1000",
        "scaling-payload-time",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.04"),
        (0.2744, "0.274"),
        (9.876, "9.88"),
        (72.44, "72.4"),
        (1000.4, "1 000"),
        (1_234_567.0, "1 234 567"),
        (-0.034, "-0.034"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text
