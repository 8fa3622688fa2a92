"""Options that are numbers: what is none is refused before anything is done, in one line."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Invoke

ENDPOINT = "tcp://127.0.0.1:1"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1", "1e10", "soon", ""])
@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--timeout", ["call", ENDPOINT, "a.b"]),
        ("--connect-timeout", ["call", ENDPOINT, "a.b"]),
        ("--connect-timeout", ["list", ENDPOINT]),
        ("--timeout", ["ping", ENDPOINT]),
        ("--interval", ["ping", ENDPOINT]),
        ("--drain-timeout", ["serve", "nowhere.py"]),
        ("--timeout", ["conformance", ENDPOINT]),
        ("--rate", ["bench", ENDPOINT, "a.b"]),
        ("--duration", ["bench", ENDPOINT, "a.b"]),
        ("--warmup", ["bench", ENDPOINT, "a.b"]),
    ],
)
def test_numbers_that_are_none(invoke: Invoke, option: str, command: list[str], value: str) -> None:
    result = invoke(*command, f"{option}={value}")
    assert result.code == 2, result
    assert option in result.err.splitlines()[-1]


@pytest.mark.parametrize("option", ["--duration", "--warmup"])
def test_durations_of_more_digits_than_numbers_have(invoke: Invoke, option: str) -> None:
    result = invoke("bench", ENDPOINT, "a.b", f"{option}={'9' * 400}h")
    assert result.code == 2
    assert "it must be a number of seconds from 0 to 1000000000, not inf" in result.err
