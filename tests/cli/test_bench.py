"""``duplex bench``: what it measures of real services, what it reports, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.harness import Result, finish, start

QUICK = ("--warmup", "0", "--count")


def measured(result: Result, code: int = 0) -> dict[str, Any]:
    """The JSON of a run that ended with an exit code."""
    assert result.code == code, result.err
    run: dict[str, Any] = json.loads(result.out)
    return run


@pytest.mark.parametrize(
    ("words", "kind", "received", "sent"),
    [
        (["calc.add", "1", "b=2"], "unary", 0, 0),
        (["calc.add", "-d", "[1, 2]"], "unary", 0, 0),
        (["calc.divide", "-1", "2"], "unary", 0, 0),
        (["calc.count", "7"], "server_streaming", 7, 0),
        (["calc.total", "--items", "5", "--item", "1"], "client_streaming", 0, 5),
        (["calc.shout", "--items", "3", "--item", "a"], "bidirectional", 3, 3),
        (["calc.shout", "--items", "0", "--item", "a"], "bidirectional", 0, 0),
    ],
)
def test_kinds(calc: str, invoke: Invoke, words: list[str], kind: str, received: int, sent: int) -> None:
    run = measured(invoke("bench", calc, *words, *QUICK, 4, "--concurrency", 2, "-o", "json"))
    assert (run["kind"], run["calls"], run["succeeded"], run["failed"]) == (kind, 4, 4, 0)
    assert run["latency"]["histogram"]["count"] == 4
    assert run["items_received_per_second"] * run["seconds"] == pytest.approx(4 * received)
    assert run["items_sent_per_second"] * run["seconds"] == pytest.approx(4 * sent)
    assert (run["first_item"] is not None) == (received > 0)
    assert run["interrupted"] is False


def test_a_rate_and_several_links(calc: str, invoke: Invoke) -> None:
    words = ["calc.add", "1", "2", "--rate", "500", "--links", "2", *QUICK, "10", "-o", "json"]
    run = measured(invoke("bench", calc, *words))
    assert (run["succeeded"], run["unsent"]) == (10, 0)
    assert run["start_delay"]["histogram"]["count"] == 10
    assert (run["options"]["rate"], run["options"]["links"], run["options"]["concurrency"]) == (500, 2, 1000)


def test_payloads(odd: str, invoke: Invoke) -> None:
    run = measured(invoke("bench", odd, "odd.backwards", "--payload", "1KiB", *QUICK, 3, "-o", "json"))
    for way in ("sent", "received"):
        assert run[f"bytes_{way}_per_second"] * run["seconds"] == pytest.approx(3 * 1024)
    words = ["odd.gather", "--items", 2, "--payload", "100", *QUICK, 3, "-o", "json"]
    run = measured(invoke("bench", odd, *words))
    assert run["bytes_sent_per_second"] * run["seconds"] == pytest.approx(600)
    assert run["options"]["payload"] == 100


def test_metadata_and_timeout(odd: str, invoke: Invoke) -> None:
    words = ["odd.sleepy", "--timeout", "0.01", "-H", "key:value", *QUICK, 2, "-o", "json"]
    run = measured(invoke("bench", odd, *words), code=68)
    assert (run["failed"], list(run["errors"])) == (2, ["DEADLINE_EXCEEDED"])


def test_failures_give_the_exit_code_and_an_example(calc: str, invoke: Invoke) -> None:
    result = invoke("bench", calc, "calc.constant", "tau", *QUICK, 3)
    assert result.code == 69
    assert "0 succeeded, 3 failed" in result.out
    assert "3 x NOT_FOUND, such as:\n    calc.constant at calc: no constant is named 'tau'" in result.out
    assert "of failures" in result.out


def test_the_report_for_people(calc: str, invoke: Invoke) -> None:
    result = invoke("bench", calc, "calc.count", "3", *QUICK, 5, "--concurrency", 2)
    assert result.code == 0
    head, _, rest = result.out.partition("calls     5 succeeded, 0 failed\n")
    assert head.startswith("calc.count at calc: server_streaming\nclosed loop, 2 at once; ")
    for word in ("rate ", "items ", "client ", "latency", "first item", "p99.99", "####"):
        assert word in rest


def test_two_runs_are_compared(calc: str, invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    file.write_text(invoke("bench", calc, "calc.add", "1", "2", *QUICK, 3, "-o", "json").out)
    result = invoke("bench", calc, "calc.add", "1", "2", *QUICK, 4, "--compare", file)
    assert result.code == 0
    assert "calls per second" in result.out
    assert "latency p99.9, ms" in result.out
    assert result.out.endswith("the runs differ in count (3 before, 4 now)\n")
    run = measured(invoke("bench", calc, "calc.add", "1", "2", *QUICK, 4, "--compare", file, "-o", "json"))
    before = json.loads(file.read_text())
    assert run["comparison"]["latency.p99.9"] == {
        "before": before["latency"]["p99.9"],
        "now": run["latency"]["p99.9"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add"], "a method is named service.method"),
        (["calc.add", "x", "1"], "argument 'a': 'x' is not a whole number"),
        (["calc.add", "1", "-d", "[]"], "not in several ways"),
        (["calc.add", "1", "--payload", "1"], "not in several ways"),
        (["calc.add", "--payload", "1"], "--payload is bytes, which calc.add does not take"),
        (["calc.naps", "--payload", "1"], "--payload is bytes, which calc.naps does not take"),
        (["calc.add", "1", "2", "--items", "1"], "--items cannot be sent to calc.add, which takes no stream"),
        (["calc.total"], "say with --items how many items each call sends"),
        (["calc.total", "--items", "1"], "say with --item WORD or --payload what its items are"),
        (["calc.total", "--items", "1", "--item", "x"], "--item: 'x' is not a whole number"),
        (["calc.total", "--items", "1", "--payload", "1"], "calc.total takes a stream of int"),
        (
            ["calc.total", "--items", "1", "--item", "1", "--payload", "1"],
            "--item or with --payload, not both",
        ),
        (["calc.total", "--item", "1"], "--item needs --items"),
        (["calc.each", "[1]"], "takes a callback"),
        (["calc.add", "1", "2", "--duration", "soon"], "'soon' is not a time"),
        (["odd.backwards", "--payload", "much"], "'much' is no size"),
        (["calc.add", "1", "2", "--rate", "0"], "--rate"),
        (["calc.add", "1", "2", "--tiemout", "1"], "No such option: --tiemout"),
        (["calc.add", "1", "2", "--compare", "/no/such/file"], "cannot read /no/such/file"),
        (["calc.add", "1", "2", "-H", "a b:c"], "metadata key 'a b' may hold only"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_called(
    calc: str, invoke: Invoke, words: list[str], message: str
) -> None:
    result = invoke("bench", calc, *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "another"}'])
def test_only_runs_can_be_compared_with(calc: str, invoke: Invoke, tmp_path: Path, text: str) -> None:
    file = tmp_path / "before.json"
    file.write_text(text)
    result = invoke("bench", calc, "calc.add", "1", "2", "--compare", file)
    assert (result.code, result.out) == (2, "")
    assert str(file) in result.err


def test_a_method_that_is_not_there(calc: str, invoke: Invoke) -> None:
    assert invoke("bench", calc, "calc.nope").code == 76


@pytest.mark.slow
def test_progress_on_a_terminal_and_an_interruption_that_leaves_a_report(calc: str) -> None:
    ours, theirs = pty.openpty()
    shown = ""
    try:
        words = ["bench", calc, "calc.add", "1", "2", "--warmup", "0.6", "--duration", "1h", "-o", "json"]
        with start(*words, stderr=theirs) as process:
            while "/s  p99" not in shown:
                shown += os.read(ours, 65536).decode()
            process.send_signal(signal.SIGINT)
            result = finish(process)
            # What is left of the line is erased before anything else is written.
            shown += os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "warming up" in shown
    assert "\r\x1b[K" in shown.rpartition("/s  p99")[2]
    run = measured(result, code=130)
    assert run["interrupted"] is True
    assert run["succeeded"] > 0
    assert run["unfinished"] <= 1
