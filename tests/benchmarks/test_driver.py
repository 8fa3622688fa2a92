"""The driver with peers that fail: every failure is told with its reason, and no process is left."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio

from benchmarks import _driver
from benchmarks._driver import ROOT, PeerFailedError, measure, plan, run_all
from benchmarks._results import Outcome
from benchmarks.peers import Entry, entry_of
from benchmarks.scenarios import SCENARIOS
from tests.machine import within

SOUND, CRASHES_AT_START, HANGS_AT_START, SERVER_CRASHES, CLIENT_CRASHES, CLIENT_HANGS = (
    entry_of(f"tests.benchmarks.broken_peers:{name}")
    for name in (
        "SOUND",
        "CRASHES_AT_START",
        "HANGS_AT_START",
        "SERVER_CRASHES",
        "CLIENT_CRASHES",
        "CLIENT_HANGS",
    )
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[trio.Process]:
    """The processes that the driver starts."""
    processes: list[trio.Process] = []
    start = trio.lowlevel.open_process

    async def open_process(*args: object, **kwargs: object) -> trio.Process:
        processes.append(await start(*args, **kwargs))  # type: ignore[call-overload]
        return processes[-1]

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    return processes


def assert_all_ended(processes: list[trio.Process], count: int) -> None:
    assert len(processes) == count
    for process in processes:
        assert process.returncode is not None
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


@pytest.mark.slow
async def test_figure_of_a_sound_peer(started: list[trio.Process]) -> None:
    outcome = await measure(SOUND, "latency", 0.01)
    assert set(outcome.figures) == {"p50", "p99"}
    assert min(outcome.figures.values()) >= 0
    assert outcome.histograms == {}
    assert_all_ended(started, 2)


@pytest.mark.slow
async def test_processes_are_tied_to_cores(
    started: list[trio.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    await measure(SOUND, "latency", 0.01, pin=True)
    for process in started:
        assert "--core=0" in str(process.args)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 7, 3})
    assert _driver._cores() == (("--core=3",), ("--core=5",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "what", "processes"),
    [
        (CRASHES_AT_START, "the server ended at its start", 1),
        (SERVER_CRASHES, "the server ended while the client measured", 2),
        (CLIENT_CRASHES, "the client ended without figures", 2),
    ],
    ids=["server at start", "server", "client"],
)
async def test_crash_is_told_with_stderr(
    entry: Entry, what: str, processes: int, started: list[trio.Process]
) -> None:
    with pytest.raises(PeerFailedError, match=what) as caught:
        await measure(entry, "latency", 0.01)
    assert "reached the end" in caught.value.stderr
    assert "ArithmeticError: broken at" in caught.value.stderr
    assert_all_ended(started, processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "what", "limits"),
    [
        (HANGS_AT_START, "the server announced nothing within 0.2 s", {"start_timeout": 0.2}),
        (CLIENT_HANGS, "the client printed no figures within 0.2 s", {"extra": 0.19}),
    ],
    ids=["server", "client"],
)
async def test_silence_is_told(
    entry: Entry, what: str, limits: dict[str, Any], started: list[trio.Process]
) -> None:
    with pytest.raises(PeerFailedError, match=what):
        await measure(entry, "latency", 0.01, **limits)
    assert_all_ended(started, len(started))


@pytest.mark.slow
async def test_cancelling_ends_the_processes(started: list[trio.Process]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, CLIENT_HANGS, "latency", 60)
        while len(started) < 2:
            await trio.sleep(0.01)  # other processes start in real time
        nursery.cancel_scope.cancel()
    assert_all_ended(started, 2)


@pytest.mark.slow
async def test_stubborn_process_is_killed(
    started: list[trio.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_driver, "_GRACE", 0.05)
    monkeypatch.setattr(trio.Process, "terminate", lambda self: None)
    await measure(SOUND, "latency", 0.01)
    assert_all_ended(started, 2)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.slow
def test_process_ends_with_its_standard_input() -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "serve", SOUND.location]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"nowhere\n"
        process.stdin.close()
        assert process.wait(timeout=within(30)) == 1


async def test_failed_peer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def fake(entry: Entry, scenario: str, seconds: float, *, pin: bool) -> Outcome:
        assert pin
        asked.append((entry.name, scenario))
        if entry.name == "bad:x" and scenario == "latency":
            raise PeerFailedError("it fell over", "its last words")
        return Outcome({name: 2.0 * len(asked) for name in SCENARIOS[scenario].figures})

    monkeypatch.setattr(_driver, "measure", fake)
    said: list[str] = []
    results = await run_all(
        [entry_of("good:x"), entry_of("bad:x")],
        ["latency", "echo"],
        repeats=2,
        seconds=1,
        pin=True,
        progress=said.append,
    )
    assert asked.count(("bad:x", "latency")) == 1
    assert asked.count(("bad:x", "echo")) == asked.count(("good:x", "latency")) == 2
    assert results.median("bad:x", "latency.p50") is None
    failure = results.failure("bad:x", "latency")
    assert failure is not None
    assert (failure.what, failure.stderr) == ("it fell over", "its last words")
    assert len(results.figures("good:x", "echo.1MiB")) == 2
    assert said[0] == "1/8 latency good:x: p50 2.0 µs, p99 2.0 µs"
    assert said[1] == "2/8 latency bad:x: it fell over"


def test_peers_take_turns_and_each_is_first_once() -> None:
    one, two = entry_of("x:1"), entry_of("x:2")
    steps = [(scenario, entry.name) for scenario, entry in plan([one, two], ["latency", "unary"], 2)]
    assert steps == [
        *[("latency", "x:1"), ("latency", "x:2"), ("unary", "x:1"), ("unary", "x:2")],
        *[("latency", "x:2"), ("latency", "x:1"), ("unary", "x:2"), ("unary", "x:1")],
    ]


def test_peers_are_asked_only_for_what_they_can() -> None:
    able = entry_of("x:1")
    unable = dataclasses.replace(able, name="x:2", abilities=frozenset({"unary"}))
    steps = [(scenario, entry.name) for scenario, entry in plan([able, unable], ["latency", "echo"], 1)]
    assert steps == [("latency", "x:1"), ("latency", "x:2"), ("echo", "x:1")]
