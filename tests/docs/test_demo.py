"""The demonstration succeeds, fails when something is not as it should be, and leaves nothing running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

import pytest

from tests.docs.markdown import ROOT
from tests.machine import within

EXAMPLES: Final = ROOT / "examples"
#: Seconds; it takes about eight on a machine that has nothing else to do.
PATIENCE: Final = 60


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=within(PATIENCE),
        check=False,
    )


def run_changed(change: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration after a statement that changes its module ``demo``."""
    return run("-c", f"import sys, demo\n{change}\nsys.exit(demo.main())")


def assert_servers_are_gone(output: str) -> None:
    pids = re.findall(r"\(process (\d+);", output)
    assert len(pids) == 1
    for workers in re.findall(r"the workers are ([\d, ]+)\)", output):
        pids += workers.split(", ")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.slow
def test_demo_succeeds() -> None:
    ran = run("demo.py")
    assert ran.stderr == ""
    assert "WRONG" not in ran.stdout
    assert re.search(r"All \d+ steps went as they should", ran.stdout)
    assert "2000 of 2000 calls answered, by 3 workers" in ran.stdout
    assert ran.returncode == 0
    assert_servers_are_gone(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "demo.SHELL[:] = [demo.SHELL[2]._replace(expected='0.25')]; demo.PYTHON[:] = [(demo.unexpected_error, '.*')]",
        "demo.SHELL[:] = [demo.SHELL[2]._replace(exit_code=1)]; demo.PYTHON[:] = [(demo.unexpected_error, '.*')]",
        "demo.SHELL.clear(); demo.PYTHON[:] = [(demo.unary, '4'), (demo.unexpected_error, '.*')]",
        "demo.SHELL.clear(); demo.PYTHON[:] = [(demo.unary, '3')]",  # no incident in the log
    ],
)
def test_demo_can_fail(change: str) -> None:
    ran = run_changed(f"demo.demo_workers.STEPS.clear(); {change}")
    assert ran.stdout.count("WRONG: expected") == 1
    # The last lines say which step it was.
    (title,) = re.findall(r"^  - (.+)$", "\n".join(ran.stdout.splitlines()[-3:]), re.MULTILINE)
    assert f"\n  {title}\n" in ran.stdout
    assert ran.returncode == 1
    assert_servers_are_gone(ran.stdout)


WORKERS_ALONE: Final = "demo.SHELL.clear(); demo.PYTHON[:] = [(demo.unexpected_error, '.*')]"


@pytest.mark.slow
def test_demo_fails_with_its_workers() -> None:
    # Nobody calls again where a worker was killed.
    ran = run_changed(
        f"{WORKERS_ALONE}; demo.duplex.RetryPolicy = lambda **_: None; demo.demo_workers.STEPS[3:] = []"
    )
    assert ran.stdout.count("WRONG: expected") == 1
    assert "  - One is killed in the middle, and no call fails" in ran.stdout
    assert ran.returncode == 1
    assert_servers_are_gone(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["PYTHON", "demo_workers.STEPS"])
def test_demo_stops_its_servers_when_it_crashes(part: str) -> None:
    ran = run_changed(f"{WORKERS_ALONE}; demo.{part}.append('nonsense')")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr
    assert_servers_are_gone(ran.stdout)


@pytest.mark.slow
def test_demo_says_why_there_is_no_server() -> None:
    ran = run_changed("demo.CALC = 'nothing.py'")
    assert ran.returncode == 1
    assert "there is no file nothing.py" in ran.stderr
