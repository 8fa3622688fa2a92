"""Calling from a shell costs little more than importing what Duplex stands on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.harness import COMMAND, ROOT, environment_without

#: The most that a call, process start included, may cost in units of the bare imports.
LIMIT = 3.3
RUNS = 7

IMPORTS = [sys.executable, "-c", "import trio, zmq, msgpack, msgspec"]
#: Coverage of subprocesses would cost more than what is measured.
ENVIRONMENT = environment_without("COV")


def seconds(command: list[str]) -> float:
    """How long a command keeps a processor busy, which other processes do not make longer.

    What the kernel tells of one process counts microseconds; ``os.times`` would count ticks of 10 ms.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=ENVIRONMENT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return used.ru_utime + used.ru_stime


def ratio(command: list[str], base: list[str]) -> float:
    """How much longer a command takes than another: by the sums of runs in turn, which are disturbed alike."""
    pairs = [(seconds(command), seconds(base)) for _ in range(RUNS)]
    return sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs)


@pytest.mark.slow
def test_a_call_starts_quickly(calc: str, record_property: Callable[[str, object], None]) -> None:
    script = shutil.which("duplex", path=Path(sys.executable).parent)
    command = [script] if script else list(COMMAND)
    measured = ratio([*command, "call", calc, "calc.add", "1", "2"], IMPORTS)
    record_property("ratio", measured)
    assert measured <= LIMIT, f"a call takes {measured} times what the imports take"


@pytest.mark.slow
def test_what_a_call_does_not_need_is_not_imported() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, duplex.cli; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    modules = set(listing.stdout.split())
    assert "duplex.cli._session" in modules
    assert "duplex.conformance" not in modules
    assert not modules & {"rich", "numpy", "asyncio", "pygments", "httpx"}
