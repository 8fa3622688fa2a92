"""``duplex call --all``: all instances are called, and each one's result or failure is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import duplex
from tests.cli.conftest import Invoke
from tests.cli.harness import CALC, serving, start

#: Processes start slowly.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def north() -> Iterator[str]:
    with serving(CALC, "--name", "north") as server:
        yield server.endpoint


def told(text: str) -> dict[str, object]:
    return {line["peer"]: line["result"] for line in map(json.loads, text.splitlines())}


def test_all_that_are_named_are_called(calc: str, north: str, invoke: Invoke) -> None:
    result = invoke("call", "--all", calc, "--also", north, "--also", calc, "calc.add", "1", "b=2")
    assert (result.code, result.err) == (0, "")
    assert told(result.out) == {"calc": 3, "north": 3}
    assert invoke("call", "--all", calc, "calc.add", "1", "2").out == '{"peer":"calc","result":3}\n'
    guessed = invoke("call", "--all", calc, "--also", north, "calc.add", "-d", "[1, 2]", "--no-reflection")
    assert told(guessed.out) == {"calc": 3, "north": 3}


def test_raw_results_stand_alone(odd: str, invoke: Invoke) -> None:
    assert invoke("call", "--all", "--raw", odd, "odd.text", "hello").out == "hello\n"


def test_what_fails_is_told_and_the_others_are_not_held_up(
    calc: str, north: str, odd: str, invoke: Invoke
) -> None:
    result = invoke(
        *("call", "--all", calc, "--also", north, "--also", odd, "--also", "tcp://127.0.0.1:9"),
        *("calc.add", "1", "2"),
    )
    assert told(result.out) == {"calc": 3, "north": 3}
    assert result.code == 64 + duplex.StatusCode.UNAVAILABLE, "it was found out first"
    assert "nothing listens at tcp://127.0.0.1:9" in result.err
    assert "UNIMPLEMENTED: calc.add at oddity: there is no such service; it offers odd" in result.err
    failed = invoke("call", "--all", calc, "--also", north, "calc.divide", "1", "0")
    assert (failed.code, failed.out) == (64 + duplex.StatusCode.INVALID_ARGUMENT, "")
    assert "calc.divide at calc" in failed.err
    assert "calc.divide at north" in failed.err
    nobody = invoke("call", "--all", "tcp://127.0.0.1:9", "calc.add", "1", "2")
    assert (nobody.code, nobody.out) == (64 + duplex.StatusCode.UNAVAILABLE, "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--also", "tcp://127.0.0.1:9", "calc.add"], "it needs --all"),
        (["--all", "--verbose", "calc.add", "1", "2"], "--all goes with neither"),
        (["--all", "--lines", "calc.total"], "--all goes with neither"),
        (["--all", "calc.count", "3"], "return one result: it is count("),
        (["--all", "calc.total"], "return one result: it is total("),
        (["--all", "calc.add", "1"], "missing argument 'b'"),
    ],
)
def test_what_does_not_go_with_it(calc: str, invoke: Invoke, words: list[str], complaint: str) -> None:
    result = invoke("call", calc, *words)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err


def test_all_instances_of_a_name(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--no-socket", "--state", tmp_path, "--bind", f"ipc://{tmp_path}/socket")
    with start("discovery", "serve", *options, stderr=None) as directory:
        assert directory.stdout is not None
        where = directory.stdout.readline().strip()
        try:
            with (
                serving(CALC, "--name", "one", "--discovery", where),
                serving(CALC, "--name", "two", "--discovery", where),
            ):
                found: dict[str, object] = {}
                for _ in range(50):
                    result = invoke(
                        "call", "--all", "--discovery", where, "discovery://calc", "calc.add", "1", "2"
                    )
                    found = told(result.out)
                    if len(found) == 2:
                        break
                assert found == {"one": 3, "two": 3}
        finally:
            directory.kill()
