"""What needs no peer costs little more than click, and a call little more than importing what Duplex stands on."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from duplex.cli._main import commands
from tests.cli.harness import COMMAND, ROOT, environment_without
from tests.meta.layering import LEVELS, area_of

pytestmark = pytest.mark.unmeasured("times commands")

#: The most that commands, process start included, may cost in units of the bare imports.
LIMITS = {"call": 2.2, "call --help": 0.5, "--version": 0.5}
RUNS = 7

IMPORTS = [sys.executable, "-c", "import trio, zmq, msgpack, msgspec"]
#: Coverage of subprocesses would cost more than what is measured.
ENVIRONMENT = environment_without("COV")

#: Runs the command, and tells at the end what was imported.
TELLING = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from duplex.cli import main
main()
"""
#: The standard library's own that take long to import.
SLOW = {"asyncio", "http", "logging", "multiprocessing", "socket", "ssl", "subprocess", "unittest"}

WITHOUT_PEER = [
    ("--version",),
    ("--help",),
    *((name, "--help") for name in sorted(commands.commands)),
    ("frobnicate",),
    ("call", "tcp://127.0.0.1:1", "no_method"),
]


def imported(*command: str) -> set[str]:
    """The names of the modules that a Python process imports, which tells them at the end of stderr."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=False
    )
    return set(done.stderr.splitlines()[-1].split())


@functools.cache
def always() -> set[str]:
    """What the start of Python itself imports here, such as what files of the environment ask for."""
    return imported("-c", "import sys; print(*sys.modules, file=sys.stderr)")


def foreign(modules: set[str]) -> set[str]:
    """The packages of modules that are neither the standard library's nor imported by every process here."""
    return {name.partition(".")[0] for name in modules - always()} - set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize("words", WITHOUT_PEER, ids=" ".join)
def test_what_needs_no_peer_imports_click_and_values(words: Sequence[str]) -> None:
    modules = imported("-c", TELLING, *words)
    assert foreign(modules) == {"duplex", "click"}
    assert not modules & SLOW
    areas = {area_of(name) for name in modules if name.startswith("duplex.")}
    assert {area for area in areas if area and LEVELS[area] > 0} == {"duplex.cli"}


@pytest.mark.slow
def test_a_call_imports_what_it_needs(calc: str) -> None:
    modules = imported("-c", TELLING, "call", calc, "calc.add", "1", "2")
    bare = imported("-c", f"{IMPORTS[2]}, sys; print(*sys.modules, file=sys.stderr)")
    assert foreign(modules) - foreign(bare) == {"duplex", "click"}
    assert "asyncio" not in modules
    assert "duplex.cli._session" in modules
    unneeded = {"_bench", "_conformance", "_listing", "_load", "_serving", "_shapes", "_target"}
    assert not modules & {f"duplex.cli.{name}" for name in unneeded}
    assert not modules & {"duplex.conformance", "duplex.testing"}


# -- time ------------------------------------------------------------------------------------------------


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command keeps a processor busy, which other processes do not make longer.

    What the kernel tells of one process counts microseconds; ``os.times`` would count ticks of 10 ms.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def ratios(calc: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, float]:
    """How much longer each command takes than the imports: by the sums of runs in turn, which are disturbed alike."""
    # All modules are compiled, as they are where Duplex is installed; the first runs do it.
    environment = {**ENVIRONMENT, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("compiled"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    script = shutil.which("duplex", path=Path(sys.executable).parent)
    start = [script] if script else COMMAND
    commands = {words: [*start, *words.split()] for words in LIMITS}
    commands["call"] += [calc, "calc.add", "1", "2"]
    commands["imports"] = IMPORTS
    for command in commands.values():
        seconds(command, environment)
    sums = dict.fromkeys(commands, 0.0)
    for _ in range(RUNS):
        for name, command in commands.items():
            sums[name] += seconds(command, environment)
    return {name: total / sums["imports"] for name, total in sums.items()}


@pytest.mark.slow
@pytest.mark.parametrize("words", LIMITS)
def test_it_starts_quickly(words: str, ratios: Mapping[str, float]) -> None:
    assert ratios[words] <= LIMITS[words], f"duplex {words} takes {ratios[words]} times what the imports take"
