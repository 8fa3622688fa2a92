"""The driver with peers that fail: every failure is told with its reason, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio

from benchmarks import _driver
from benchmarks._driver import ROOT, PeerFailedError, measure, plan, run_all
from benchmarks.peers import Entry, entry_of

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
    assert await measure(SOUND, "a", 0.01) == 1.5
    assert_all_ended(started, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "what", "processes"),
    [
        (CRASHES_AT_START, "the server ended at its start", 1),
        (SERVER_CRASHES, "the server ended while the client measured", 2),
        (CLIENT_CRASHES, "the client ended without a figure", 2),
    ],
    ids=["server at start", "server", "client"],
)
async def test_crash_is_told_with_stderr(
    entry: Entry, what: str, processes: int, started: list[trio.Process]
) -> None:
    with pytest.raises(PeerFailedError, match=what) as caught:
        await measure(entry, "a", 0.01)
    assert "reached the end" in caught.value.stderr
    assert "ArithmeticError: broken at" in caught.value.stderr
    assert_all_ended(started, processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "what", "limits"),
    [
        (HANGS_AT_START, "the server announced nothing within 0.2 s", {"start_timeout": 0.2}),
        (CLIENT_HANGS, "the client printed no figure within 0.2 s", {"extra": 0.19}),
    ],
    ids=["server", "client"],
)
async def test_silence_is_told(
    entry: Entry, what: str, limits: dict[str, float], started: list[trio.Process]
) -> None:
    with pytest.raises(PeerFailedError, match=what):
        await measure(entry, "a", 0.01, **limits)
    assert_all_ended(started, len(started))


@pytest.mark.slow
async def test_cancelling_ends_the_processes(started: list[trio.Process]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, CLIENT_HANGS, "a", 60)
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
    await measure(SOUND, "a", 0.01)
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
        assert process.wait(timeout=30) == 1


async def test_failed_peer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def fake(entry: Entry, scenario: str, seconds: float) -> float:
        asked.append((entry.name, scenario))
        if entry.name == "bad:x" and scenario == "a":
            raise PeerFailedError("it fell over", "its last words")
        return 2.0 * len(asked)

    monkeypatch.setattr(_driver, "measure", fake)
    said: list[str] = []
    results = await run_all(
        [entry_of("good:x"), entry_of("bad:x")], ["a", "b"], repeats=2, seconds=1, progress=said.append
    )
    assert asked.count(("bad:x", "a")) == 1
    assert asked.count(("bad:x", "b")) == asked.count(("good:x", "a")) == 2
    assert results.median("bad:x", "a") is None
    failure = results.failure("bad:x", "a")
    assert failure is not None
    assert (failure.what, failure.stderr) == ("it fell over", "its last words")
    assert len(results.figures("good:x", "b")) == 2
    assert said[0] == "1/8 a good:x: 2.0 µs"
    assert said[1] == "2/8 a bad:x: it fell over"


def test_peers_take_turns_and_each_is_first_once() -> None:
    one, two = entry_of("x:1"), entry_of("x:2")
    steps = [(scenario, entry.name) for scenario, entry in plan([one, two], ["a", "b"], 2)]
    assert steps == [
        *[("a", "x:1"), ("a", "x:2"), ("b", "x:1"), ("b", "x:2")],
        *[("a", "x:2"), ("a", "x:1"), ("b", "x:2"), ("b", "x:1")],
    ]
