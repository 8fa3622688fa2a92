"""The markers and patterns that scenarios are written in."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from duplex.conformance._commands import MalformedError, read, shown
from duplex.conformance._patterns import Matcher
from duplex.conformance._values import CannotDriveError, ScenarioError, Values, pack, unpack


@pytest.fixture
def values() -> Values:
    return Values(own_first=1, unique="u")


@pytest.mark.parametrize(
    ("written", "built"),
    [
        ("plain", "plain"),
        ("@1", 1),
        ("@3", 5),
        ("@", "@"),
        ("=2 + 3 * 4 // 5 - 1", 3),
        ("=theirs", 2),
        ({"hex": "00ff"}, b"\x00\xff"),
        ({"utf8": "ü"}, "ü".encode()),
        ({"fill": "=1 + 1"}, b"\0\0"),
        ({"text": 3}, "xxx"),
        ({"literal": "=1"}, "=1"),
        ({"unique": "k"}, "k-u"),
        ({"channel": "=1 + 1"}, 3),
        ({"entries": 2}, {"key-0": "", "key-1": ""}),
        ({"times": [3, "=n"]}, [0, 1, 2]),
        ({"concat": [{"hex": "91"}, {"msgpack": "@2"}]}, b"\x91\x03"),
        ({"msgpack": [{"ext": [3, 7]}, None]}, b"\x92\xd4\x03\x07\xc0"),
        ({"a": 1, "hex": "@1"}, {"a": 1, "hex": 1}),
        ([["@1"], None, True], [[1], None, True]),
    ],
)
def test_what_is_written_is_built(values: Values, written: Any, built: Any) -> None:
    assert values.build(written) == built


@pytest.mark.parametrize("size", [2, 3, 257, 258, 300, 65538, 65539, 70000])
def test_a_blob_is_one_value_of_its_size(values: Values, size: int) -> None:
    blob = values.build({"blob": size})
    assert len(blob) == size
    assert isinstance(unpack(blob), bytes)


def test_the_other_side_has_the_other_numbers() -> None:
    assert Values(own_first=2, unique="").build(["@1", "@2", "=ours", "=theirs"]) == [2, 4, 2, 1]


@pytest.mark.parametrize("written", ["=1 / 2", "=f(1)", "$unknown", "=unknown", {"blob": 1}, {"fill": "x"}])
def test_nonsense_is_the_scenarios_fault(values: Values, written: Any) -> None:
    with pytest.raises(ScenarioError):
        values.build(written)


def test_credit_is_asked_for_when_it_is_needed() -> None:
    balances = {0: 1000, 1: 10, 12: 7}
    values = Values(own_first=1, unique="", balance=balances.get)
    assert values.build(["=credit", "=credit_1 - 1", "=credit_12"]) == [1000, 9, 7]
    balances[0] -= 300
    assert values.build("=credit") == 700
    for unknown in ("=credit_2", "=credit_", "=credit_0", "=credits"):
        with pytest.raises(ScenarioError, match="which nothing captured"):
            values.build(unknown)


def test_what_is_too_much_is_not_sent(values: Values) -> None:
    values.names["max_message"] = 2**53 - 1
    with pytest.raises(CannotDriveError, match=r"max_message \+ 1 is 9007199254740992 here"):
        values.build({"fill": "=max_message + 1"})


BUFFER = pack([msgpack.ExtType(1, pack(0))])


@pytest.mark.parametrize(
    ("pattern", "command", "fits"),
    [
        (["PONG", 1], ["PONG", 1, 0], True),
        (["PONG", 1, 0, 0], ["PONG", 1, 0], False),
        (["PONG", 1], ["PONG", True, 0], False),
        (["PONG", "*"], ["PONG", 9, 0], True),
        (["PONG", "@2"], ["PONG", 3, 0], True),
        (["PONG", {"from": 3, "to": "=4"}], ["PONG", 4, 0], True),
        (["PONG", {"from": 3}], ["PONG", 2, 0], False),
        (["PONG", {"from": 1, "parity_of": "=theirs"}], ["PONG", 3, 0], False),
        (["PONG", {"not": 3}], ["PONG", 4, 0], True),
        (["PONG", {"any_of": [1, 2]}], ["PONG", 2, 0], True),
        (["X", {"type": "text"}], ["X", b""], False),
        (["X", {"contains": "b"}], ["X", "abc"], True),
        (["X", {"size": 2}], ["X", b"ab"], True),
        (["X", {"msgpack": {"a": [1, {"hex": "00"}]}}], ["X", pack({"a": [1, b"\0"]})], True),
        (["X", {"msgpack": [{"utf8": "beside"}]}], ["X", BUFFER], True),
        (["X", {"msgpack": ["ext", 3, 7]}], ["X", pack(msgpack.ExtType(3, pack(7)))], True),
        (["X", {"msgpack": 1}], ["X", b"\xc1"], False),
        (["X", {"msgpack": 1}], ["X", None], False),
        (["X", {"json": {"a": 1}}], ["X", b'{"a": 1}'], True),
        (["X", {"json": 1}], ["X", b"{"], False),
        (["X", {"with": {"a": 1}}], ["X", {"a": 1, "b": 2}], True),
        (["X", {"a": 1}], ["X", {"a": 1, "b": 2}], False),
        (["X", {"each": 1}], ["X", [1, 1, 2]], False),
        (["X", {"includes": 2}], ["X", [1, 2]], True),
        (["X", {}], ["X", {}], True),
        (["X", []], ["X", [1]], False),
    ],
)
def test_patterns(values: Values, pattern: list[Any], command: list[Any], fits: bool) -> None:
    assert Matcher(values).matches(pattern, command, [b"beside"]) is fits


def test_captures_are_kept_once_the_whole_fits(values: Values) -> None:
    matcher = Matcher(values)
    assert not matcher.matches(["X", {"capture": "a"}, 1], ["X", 5, 2], [])
    assert "a" not in values.names
    assert matcher.matches(["X", {"capture": "a", "is": {"from": 1}}, 1], ["X", 5, 1], [])
    assert matcher.matches(["Y", "$a"], ["Y", 5], [])


def test_commands_are_read_with_their_defaults() -> None:
    assert read([10, 1]) == ["CLOSE", 1, 0, None, 0, "", None, None]
    assert read([3, 1, 2, "later"]) == ["PING", 1, 2]
    assert shown(["CLOSE", 1, 0, None, 0, "", None, None]) == "CLOSE(1)"
    assert shown(["CLOSE", 1, 0, bytes(100), 0, "", None, None]).endswith("(100))")


@pytest.mark.parametrize("command", [5, [], [12], [True], [-1], ["PING", 1], [3]])
def test_what_is_no_command_is_said_to_be_malformed(command: Any) -> None:
    with pytest.raises(MalformedError):
        read(command)
