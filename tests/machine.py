"""What a test needs of the machine that it runs on, and what becomes of it where that is missing or busy.

Such a test is skipped with the reason, or fails where ``DUPLEX_REQUIRE_SERVICES`` is 1: on a machine that is
there to run everything, a test that was skipped would look like one that passed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Never

import pytest
import trio
import trio.testing

#: Seconds that the package manager may take.
_INSTALL_WITHIN = 120
#: The tests' own processes are a load too, and come and go.
_SPARE = 2.0


def missing(what: str) -> Never:
    """Skip the running test for want of something, or fail it where everything is required.

    Args:
        what: the reason, such as ``"etcd is not installed"``.
    """
    if os.environ.get("DUPLEX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what}, and DUPLEX_REQUIRE_SERVICES=1 asks for it")
    pytest.skip(what)


def require_program(name: str, *, package: str | None = None) -> str:
    """Return the path of a program.

    Args:
        name: the program.
        package: what it comes in on Debian. Where this process may install packages there, it does.
    """
    path = shutil.which(name)
    if path is None and package is not None and _install(package):
        path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return path


def require_namespaces() -> None:
    """Make sure that network namespaces can be made, and wires between them."""
    problem = why_no_namespaces()
    if problem is not None:
        missing(problem)


def why_no_namespaces() -> str | None:
    """Return why there can be no network namespaces here, or ``None`` if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "this kernel has no /dev/net/tun"
    if shutil.which("ip") is None and not _install("iproute2"):
        return "ip (iproute2) is not installed"
    return None


@functools.cache
def _install(package: str) -> bool:
    """Install a package of Debian's, once, if this process may; tell whether that worked."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "-qq", "--no-install-recommends", package]
    with _alone():
        # The lists are old, or not there at all, only where the first attempt fails.
        for words in (install, ["update", "-qq"], install):
            command = ["apt-get", f"-oDPkg::Lock::Timeout={_INSTALL_WITHIN}", *words]
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_INSTALL_WITHIN,
                )
                if done.returncode == 0 and words is install:
                    return True
    return False


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Install while no other process of a test run's does."""
    with (Path(tempfile.gettempdir()) / "duplex-tests-install.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def crowding() -> float:
    """Return how many processes want each processor; at least 1."""
    minute, _, _, runnable, _ = Path("/proc/loadavg").read_text(encoding="ascii").split()
    waiting = max(float(minute), float(runnable.partition("/")[0]))
    return max(1.0, waiting / len(os.sched_getaffinity(0)))


def slowness() -> float:
    """Return how many times longer something may take here than on a machine that has nothing else to do."""
    return _SPARE * crowding()


def within(seconds: float) -> float:
    """Return how long something may take here.

    Args:
        seconds: how long it may take on a machine that has nothing else to do.
    """
    return seconds * slowness()


def fail_after(seconds: float) -> AbstractContextManager[trio.CancelScope]:
    """``trio.fail_after``, but for as many seconds as this machine needs instead of a quiet one; a clock that is
    made for tests does not depend on the machine."""
    if isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
        return trio.fail_after(seconds)
    return trio.fail_after(within(seconds))
