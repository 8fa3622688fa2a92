"""Completion in a shell: as click asks for it, and in a real bash, which has its own mind about colons."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from duplex.cli._completing import Bash
from tests.cli.harness import ROOT
from tests.machine import require_program, within

pytestmark = pytest.mark.unmeasured("has real shells call what other tests call")

DUPLEX = shutil.which("duplex", path=str(Path(sys.executable).parent))


@pytest.fixture(scope="module")
def discovery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A directory with the services ``calc``, ``call-centre`` and ``web``."""
    folder = tmp_path_factory.mktemp("discovery")
    words = (
        "run",
        "--no-socket",
        "--store",
        "memory:",
        "--state",
        str(folder),
        "--bind",
        "tcp://127.0.0.1:*",
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "duplex", "discovery", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
    ]
    try:
        assert started[0].stdout is not None
        endpoint = started[0].stdout.readline().strip()
        for service in ("calc", "call-centre", "web"):
            command = [
                sys.executable,
                "-m",
                "duplex",
                "discovery",
                "register",
                service,
                "tcp://10.0.0.1:1",
                "--discovery",
                endpoint,
            ]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
            started.append(process)
            assert process.stderr is not None
            assert "registered" in process.stderr.readline()
        yield endpoint
    finally:
        for process in started:
            process.kill()
            process.communicate()


def completed(line: str, colons: str = ":", **environment: str) -> list[str]:
    """What a script of bash's is given for a line."""
    variables = {**os.environ, "_DUPLEX_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_COLONS": colons}
    done = subprocess.run(
        [sys.executable, "-m", "duplex"],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=within(60),
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.slow
def test_names_are_completed(discovery: str) -> None:
    where = {"DUPLEX_DISCOVERY": discovery}
    assert completed("duplex call discovery://ca", **where) == ["//calc", "//call-centre"]
    assert completed("duplex call discovery://ca", colons="", **where) == [
        "discovery://calc",
        "discovery://call-centre",
    ]
    assert completed("duplex top tcp://h:1 disc", **where) == [
        f"discovery://{name}" for name in ("calc", "call-centre", "web")
    ]
    assert completed(f"duplex call --discovery {discovery} discovery://w") == ["//web"]
    assert completed("duplex discovery show ca", **where) == ["calc", "call-centre"]
    assert completed("duplex call tcp://", **where) == []
    assert completed("duplex call ", **where) == []


@pytest.mark.slow
def test_nobody_answers() -> None:
    where = {"DUPLEX_DISCOVERY": "tcp://127.0.0.1:1"}
    assert completed("duplex call discovery://c", **where) == []
    assert completed("duplex discovery show c", **where) == []
    assert completed("duplex call discovery://c", DUPLEX_DISCOVERY="no/such:place") == []


@pytest.mark.slow
def test_commands_of_others_are_completed() -> None:
    assert completed("duplex dis") == ["discovery"]
    assert "describe" in completed("duplex d")


def test_the_script_gives_the_line() -> None:
    assert "COMP_LINE" in Bash.source_template, "click's script is another one now"


@pytest.mark.slow
def test_bash(discovery: str) -> None:
    bash = require_program("bash", package="bash")
    assert DUPLEX is not None
    script = r"""
eval "$(_DUPLEX_COMPLETE=bash_source duplex)"
COMP_LINE="duplex call discovery://we"; COMP_POINT=${#COMP_LINE}
COMP_WORDS=(duplex call discovery : //we); COMP_CWORD=4
_duplex_completion duplex
echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env={
            **os.environ,
            "PATH": f"{Path(DUPLEX).parent}:{os.environ['PATH']}",
            "DUPLEX_DISCOVERY": discovery,
        },
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.stdout == "//web\n", done.stderr
