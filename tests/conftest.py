"""What all tests share. Endpoints need no fixture: bind to ``tcp://127.0.0.1:*`` and use what comes back."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from duplex.engine._log import Bounded
from tests import machine
from tests.wires import plugin as wires

pytest_plugins = ["tests.hangs", "tests.measuring", "tests.strays", "tests.workers"]

# A deadline per example fails on busy machines and says nothing about the code.
settings.register_profile("default", deadline=None, print_blob=True)
# The same examples on every run, so that a failure is the fault of the change that it appears with.
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

#: Folders of few tests that take long. They begin, as those that are left in the end have nothing beside them.
FIRST = ("docs", "faults", "benchmarks", "attacks", "stress", "conformance")

#: Seconds that a thread which is already on its way out may take.
THREAD_GRACE = 2.0


def pytest_addoption(parser: pytest.Parser) -> None:
    wires.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    wires.configure(config)
    # What one test knew of discovery is nothing to another one, and nothing to this machine's user.
    os.environ["DUPLEX_DISCOVERY_CACHE"] = "off"
    os.environ.pop("DUPLEX_DISCOVERY", None)


def pytest_report_header(config: pytest.Config) -> str:
    return wires.header(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wires.skip_others(config, items)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    here = Path(__file__).parent
    folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wires.sample(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except Exception as error:
        wires.skip_if_elsewhere(error)
        raise


@pytest.fixture(autouse=True)
def wire(request: pytest.FixtureRequest) -> Iterator[None]:
    """See :mod:`tests.wires.plugin`."""
    yield from wires.use_wire(request)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """Count no test's warnings as repetitions of those of the tests before it."""
    for found in logging.getLogger("duplex").filters:
        assert isinstance(found, Bounded)
        found._kinds.clear()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread behind.

    Tasks need no such guard, a trio run ends only when all of them have, and neither do sockets: one that
    is not closed warns, and warnings are errors. trio keeps idle workers for a while; those are daemons.
    """
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(THREAD_GRACE)
    alive = [thread.name for thread in left if thread.is_alive()]
    if alive:
        pytest.fail(f"the test left threads running: {', '.join(alive)}")


@pytest.fixture
def require_program() -> Callable[..., str]:
    """A function that returns the path of a program the test talks to: see :mod:`tests.machine`."""
    return machine.require_program


@pytest.fixture
def namespaces() -> None:
    """The test makes network namespaces: see :mod:`tests.machine`."""
    machine.require_namespaces()


#: What is logged as an error because functions of the program, which in tests do so on purpose, have failed: by how it begins.
_OF_PROGRAMS = (
    "a channel passed to %s failed",
    "a span of a call is lost",
    "an error of %s could not be told",
    "an error that %s raised is told in part",
    "authorize failed for",
    "closing a channel that was passed to another peer failed",
    "incident %s: the authenticator",
    "incident %s: the handler of",
    "the credentials for %s cannot be had",
    "the generator of %s failed",
    "the handler of",
    "the observer of calls failed",
    "trailers of %s are left out",
)


class _Errors(logging.Handler):
    """Keeps what is logged as an error and is nobody's fault but Duplex's own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not str(record.msg).startswith(_OF_PROGRAMS):
            self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def no_error_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which Duplex has logged that something of its own went wrong, and gone on: such errors are seen nowhere else. Tests
    that provoke some look at them with ``caplog``."""
    errors = _Errors()
    logger = logging.getLogger("duplex")
    logger.addHandler(errors)
    yield
    logger.removeHandler(errors)
    if errors.found and "caplog" not in request.fixturenames:
        pytest.fail("an error was logged, and nobody looked at it: " + "\n".join(errors.found))
