"""Servers that all tests of the command share, and the command within this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duplex.cli import main
from tests.cli.harness import CALC, TARGETS, Result, serving


@pytest.fixture(scope="session")
def calc() -> Iterator[str]:
    """The endpoint of ``examples/calc.py``."""
    with serving(CALC, "--bind", "tcp://127.0.0.1:*") as server:
        yield server.endpoint


@pytest.fixture(scope="session")
def odd() -> Iterator[str]:
    """The endpoint of ``targets/odd.py``, which tells callers of tracebacks."""
    with serving(TARGETS / "odd.py", "--debug", "--name", "oddity", "--log-level", "error") as server:
        yield server.endpoint


@pytest.fixture(scope="session")
def shapes() -> Iterator[str]:
    """The endpoint of ``targets/shapes.py``."""
    with serving(TARGETS / "shapes.py") as server:
        yield server.endpoint


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run the command in this process, with ``given`` on its stdin."""

    def run(*words: object, given: str | bytes = b"") -> Result:
        source = tmp_path / "stdin"
        source.write_bytes(given.encode() if isinstance(given, str) else given)
        with source.open() as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["duplex", *map(str, words)])
            patch.setattr(sys, "stdin", stdin)
            with pytest.raises(SystemExit) as exit_:
                main()
        out, err = capfd.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run


@pytest.fixture
def forget_imports() -> Iterator[None]:
    """Leave the import system as it was."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
