"""What of the tests is measured by coverage. It doubles what Python costs, and gives each process a fifth of a second more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import coverage
import pytest

from tests.wires.plugin import PLAIN

#: Tests whose processes are measured: what they try, only processes do.
PROCESSES: Final = tuple(Path(__file__).with_name(name) for name in ("cli", "conformance", "services"))
#: For tests that do often, or with much, what others do once.
MARKER: Final = "unmeasured(why): does again what other tests do, so coverage has nothing of it"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(autouse=True)
def coverage_where_it_says_something(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """See ``PROCESSES`` and ``MARKER``; what runs over another wire has run over the plain one, too."""
    call = getattr(request.node, "callspec", None)
    leaves_out = request.node.get_closest_marker("unmeasured") is not None or (
        call is not None and call.params.get("wire", PLAIN) != PLAIN
    )
    if leaves_out or not any(request.path.is_relative_to(folder) for folder in PROCESSES):
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            monkeypatch.delenv(name)
    measuring = coverage.Coverage.current() if leaves_out else None
    if measuring is not None:
        measuring.stop()
    yield
    if measuring is not None:
        measuring.start()
