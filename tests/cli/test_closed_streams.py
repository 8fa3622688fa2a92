"""Commands whose standard streams are closed, or lead to a full disk: a line that says so, and no traceback."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.cli.harness import COMMAND, PATIENCE, ROOT, environment
from tests.machine import within

pytestmark = [
    pytest.mark.slow,
    pytest.mark.unmeasured("commands that other tests call with their streams open"),
]

#: Commands that print something to stdout; ENDPOINT stands for that of ``examples/calc.py``.
COMMANDS = {
    "call": "call ENDPOINT calc.add 1 2",
    "call of a stream": "call ENDPOINT calc.count 3",
    "list": "list ENDPOINT",
    "describe": "describe ENDPOINT -o json",
    "ping": "ping ENDPOINT --count 1",
    "bench": "bench ENDPOINT calc.naps --count 1 --warmup 0s -o json",
    "scenarios": "conformance --list",
    "version": "--version",
    "help": "call --help",
}


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec {' '.join(COMMAND)} {line}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within(PATIENCE),
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")]
)
def test_stdout(command: str, redirection: str, reason: str, calc: str) -> None:
    ran = shell(f"{COMMANDS[command].replace('ENDPOINT', calc)} {redirection}")
    assert (ran.returncode, ran.stdout) == (1, "")
    last = ran.stderr.splitlines()[-1]
    assert last == f"error: standard output cannot be written to: {reason}"
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_stderr(redirection: str, calc: str) -> None:
    ran = shell(f"call {calc} calc.add 1 2 -v {redirection}")
    assert re.fullmatch("3\n", ran.stdout)
    ran = shell(f"call {calc} calc.constant tau {redirection}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (69, "", "")


def test_all_three(calc: str) -> None:
    assert shell(f"call {calc} calc.total <&- >&- 2>&-").returncode == 1


def test_stdin(calc: str) -> None:
    ran = shell(f"call {calc} calc.total <&-")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "0\n", "")
