"""Ctrl-C while the command is still being imported ends it without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import ENVIRONMENT, PATIENCE, ROOT

START = "import duplex_command; duplex_command.main()"


def start(code: str, *folders: Path, ignore: bool = False) -> subprocess.Popen[str]:
    """Run code as the installed script would, with modules of these folders before all others."""
    number = signal.SIG_IGN if ignore else signal.default_int_handler
    previous = signal.signal(signal.SIGINT, number)
    try:
        return subprocess.Popen(
            [sys.executable, "-c", code, "--version"],
            env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT]))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, previous)


def test_ctrl_c_while_importing(tmp_path: Path) -> None:
    (tmp_path / "trio.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    with start(START, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("ignore", [False, True])
def test_what_is_imported_finds_the_usual_handler(ignore: bool) -> None:
    code = "import duplex.cli, duplex_command as it, signal\n"
    code += "duplex.cli.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.%s)\nit.main()"
    with start(code % ("SIG_IGN" if ignore else "default_int_handler"), ignore=ignore) as process:
        assert process.communicate(timeout=PATIENCE) == ("True\n", "")


@pytest.mark.slow
def test_the_command_runs() -> None:
    with start(START) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("duplex ")
