"""The tests' own run: a test that hangs or says odd things costs one test, and an interrupt ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]

INI = f"""
[pytest]
pythonpath = {ROOT}
trio_mode = true
filterwarnings = error
timeout = 60
"""

HANGING = """
import subprocess, time
import pytest, trio

@pytest.fixture
async def beside(nursery):
    nursery.start_soon(trio.sleep_forever)
    yield

async def between(): await trio.sleep(0)
test_0 = test_1 = test_2 = test_3 = test_4 = test_5 = test_6 = between

@pytest.mark.timeout(1)
async def test_async_hangs(beside):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)

@pytest.mark.timeout(1)
async def test_blocked_hangs():
    time.sleep(100)

@pytest.mark.timeout(1)
def test_sync_hangs():
    with subprocess.Popen(["sleep", "3"]) as process:
        pass

@pytest.mark.timeout(1)
async def test_sync_in_async_hangs():
    process = subprocess.Popen(["sleep", "3"])
    process.wait()

test_7 = test_8 = test_9 = between

@pytest.mark.timeout(1)
def test_inner_run_hangs():
    trio.run(trio.sleep_forever)

@pytest.mark.timeout(1)
async def test_swallowing_hangs():
    with trio.CancelScope() as scope:
        await trio.sleep_forever()

test_10 = test_11 = test_12 = test_13 = test_14 = between
"""

SHIELDED = """
import pytest, trio

@pytest.mark.parametrize("number", range(8))
async def test_before(number): await trio.sleep(0)

@pytest.mark.timeout(1)
async def test_shielded_hangs():
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

@pytest.mark.parametrize("number", range(8))
async def test_after(number): await trio.sleep(0)
"""

ODD = r"""
import logging

def test_odd(): assert "fine" == "odd \ud800 é"

def test_odd_in_the_log(): logging.getLogger("odd").error("odd \ud800")
"""

SLEEPING = """
import pathlib
import pytest, trio

@pytest.mark.parametrize("number", range(4))
async def test_sleep(number, tmp_path):
    pathlib.Path("begun").write_text("")
    await trio.sleep(50)
"""


CANCELLED = """
import pytest, trio

async def stray():
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept = error
    return kept

@pytest.fixture
async def failing(nursery):
    async def fail():
        raise LookupError("in a fixture's task")
    nursery.start_soon(fail)

async def test_alone(): raise await stray()
async def test_in_a_group(): raise BaseExceptionGroup("both", [await stray(), BaseExceptionGroup("one", [await stray()])])
async def test_with_another(): raise BaseExceptionGroup("both", [await stray(), ValueError("its own")])
async def test_of_a_fixture(failing): await trio.sleep_forever()

@pytest.mark.parametrize("number", range(3))
async def test_that_passes(number): await trio.sleep(0)

async def test_that_is_over_in_time():
    with trio.move_on_after(0):
        await trio.sleep_forever()
"""


def environment() -> dict[str, str]:
    """What pytest in a process of its own may know of this one: nothing of its workers, nothing of its coverage."""
    hidden = ("PYTEST_", "COV_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def command(folder: Path, tests: str, words: Sequence[str]) -> list[str]:
    (folder / "pytest.ini").write_text(INI)
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.hangs", "tests.strays", "tests.workers"]')
    (folder / "test_it.py").write_text(tests)
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=results.xml", *words]


def run(folder: Path, tests: str, *words: str) -> tuple[dict[str, str], str]:
    """Run tests to their end; return what failed, with its text, and everything that was printed."""
    done = subprocess.run(
        command(folder, tests, words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout
    cases = ET.parse(folder / "results.xml").iter("testcase")
    bad = {case.get("name", ""): "".join(one.text or "" for one in case) for case in cases if len(case)}
    return bad, done.stdout


@pytest.mark.slow
def test_that_hangs_fails_alone(tmp_path: Path) -> None:
    failed, printed = run(tmp_path, HANGING)
    assert "6 failed, 15 passed" in printed
    assert all(name.endswith("hangs") for name in failed), printed
    for reason in failed.values():
        assert "the test took longer than 1 s" in reason
    assert "async with trio.open_nursery() as nursery:" in failed["test_async_hangs"]
    assert "task trio.sleep_forever waits in" in failed["test_async_hangs"]
    assert 'subprocess.Popen(["sleep", "3"])' in failed["test_sync_hangs"]
    assert "time.sleep(100)" in failed["test_blocked_hangs"]


@pytest.mark.slow
def test_that_is_cancelled_by_mistake_fails(tmp_path: Path) -> None:
    failed, printed = run(tmp_path, CANCELLED)
    assert "4 failed, 4 passed" in printed
    for name in ("test_alone", "test_in_a_group"):
        assert "the test was cancelled, and nobody meant to" in failed[name]
    assert "its own" in failed["test_with_another"]
    assert "in a fixture's task" in failed["test_of_a_fixture"]


@pytest.mark.slow
def test_that_cannot_be_cancelled_costs_its_worker_and_no_test_but_itself(tmp_path: Path) -> None:
    failed, printed = run(tmp_path, SHIELDED, "-n", "2")
    assert "1 failed, 16 passed" in printed
    [reason] = failed.values()
    assert "crashed while running 'test_it.py::test_shielded_hangs'" in reason
    assert "test_shielded_hangs does not end: the test took longer than 1 s" in printed
    assert "await trio.sleep_forever()" in printed


@pytest.mark.slow
def test_what_is_not_unicode_does_not_end_the_run(tmp_path: Path) -> None:
    failed, printed = run(tmp_path, ODD, "-n", "2")
    assert "1 failed, 1 passed" in printed
    assert r"odd \ud800 é" in failed["test_odd"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "send"),
    # Control-C is for all processes of the terminal.
    [((), os.kill), (("-n", "2"), os.killpg)],
    ids=["one process", "workers and a terminal"],
)
def test_interrupt(tmp_path: Path, words: tuple[str, ...], send: Callable[[int, int], None]) -> None:
    begun = tmp_path / "begun"
    with subprocess.Popen(
        command(tmp_path, SLEEPING, words),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while not begun.exists():
                # There is no other sign of a test that has begun.
                time.sleep(0.05)
            send(process.pid, signal.SIGINT)
            # Its stdout ends when no process has it any more, workers included.
            printed, _ = process.communicate(timeout=40)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, printed
    assert "KeyboardInterrupt" in printed
