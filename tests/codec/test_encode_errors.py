"""What cannot travel, and how people are told."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duplex._errors import EncodeError
from duplex.codec import Codec
from duplex.codec._explain import encode_error
from duplex.codec._plain import UnfitError
from tests.codec.helpers import CODEC, JSON, FakeLive


class Foo:
    pass


class Node(msgspec.Struct):
    value: Any


@dataclass
class Leaf:
    value: Any


def refusal(codec: Codec, value: Any, live: Any = None) -> str:
    with pytest.raises(EncodeError) as caught:
        codec.encode(value, live)
    return str(caught.value)


@pytest.mark.parametrize("codec", [CODEC, JSON], ids=["msgpack", "json"])
@pytest.mark.parametrize(
    ("value", "where"),
    [
        (Foo(), ""),
        ([Foo()], " - at `$[0]`"),
        ({"a": [1, {"b c": Foo()}]}, " - at `$.a[1]['b c']`"),
        ((1, {Foo()}), " - at `$[1][0]`"),
        ({5: Node([Leaf(Foo())])}, " - at `$[5].value[0].value`"),
        ({"x": {"y": 1, "z": frozenset([Foo()])}}, " - at `$.x.z[0]`"),
    ],
)
def test_the_type_and_the_place(codec: Codec, value: Any, where: str) -> None:
    message = refusal(codec, value)
    assert message.startswith("values of type Foo cannot travel: what travels ")
    assert message.partition(" - at ")[2] == where.partition(" - at ")[2]


def test_what_can_travel_instead() -> None:
    assert "dataclass and msgspec.Struct of these; functions and channels travel only while" in refusal(
        CODEC, Foo()
    )
    assert "arrays" in refusal(CODEC, Foo())
    assert refusal(CODEC, Foo(), FakeLive()).endswith("dataclass and msgspec.Struct of these")
    assert refusal(JSON, print).endswith("; for functions and channels use msgpack")


@pytest.mark.parametrize(
    "value",
    [
        1j,
        range(3),
        collections.deque(),
        Path(),
        iter([]),
        {}.keys(),
        object,
        ...,
        ValueError(),
        msgspec.UNSET,
    ],
)
def test_other_types(value: Any) -> None:
    for codec in (CODEC, JSON):
        assert f"values of type {type(value).__name__} cannot travel" in refusal(codec, [value])


def test_a_bad_value_far_inside_is_told_without_its_place() -> None:
    message = refusal(CODEC, [0] * 20_000 + [Foo()])
    assert message.startswith("values of type Foo cannot travel")
    assert " - at " not in message


def test_arguments_are_named() -> None:
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((1, Foo()), {}, "argument 2: values of type Foo cannot travel"),
        ((1,), {"name": Foo()}, "argument 'name': values of type Foo cannot travel"),
        (({"a": [Foo()]},), {}, "argument 1: values of type Foo"),
        ((Foo(), Foo()), {}, "argument 1: "),
        (
            (),
            {"big": [2**64]},
            "argument 'big': an integer of more than 64 bits cannot travel: send it as text",
        ),
    ]
    for positional, keyword, start in cases:
        with pytest.raises(EncodeError) as caught:
            CODEC.encode_arguments(positional, keyword, FakeLive())
        assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(" - at `$[0]`")
    with pytest.raises(EncodeError, match=r"^argument 1: .* - at `\$\.a\[0\]`$"):
        CODEC.encode_arguments(({"a": [Foo()]},), {})
    with pytest.raises(EncodeError, match=r"^argument 2: .*json.* - at `\$\[0\]`$"):
        JSON.encode_arguments((1, [Foo()]), {})


def test_arguments_that_are_no_sequence() -> None:
    with pytest.raises(EncodeError, match=r"^values of type deque cannot travel: .* - at `\$\[0\]`$"):
        CODEC.encode_arguments(collections.deque([1]), {})


@pytest.mark.parametrize(
    "time",
    [
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-2))),
    ],
)
def test_times_beyond_the_years(time: dt.datetime) -> None:
    message = "a time that is before the year 1 or after 9999 in UTC cannot travel: send it as text"
    assert refusal(CODEC, time) == message
    assert (
        refusal(CODEC, [dt.datetime.min, dt.datetime.max.replace(tzinfo=dt.UTC), time])
        == f"{message} - at `$[2]`"
    )


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40])
def test_integers_of_more_than_64_bits(number: int) -> None:
    message = "an integer of more than 64 bits cannot travel: send it as text"
    assert refusal(CODEC, number) == message
    assert refusal(CODEC, {"a": [True, number]}) == f"{message} - at `$.a[1]`"
    assert refusal(CODEC, {number: 1}) == f"{message} - at `$[{number}] (the key)`"
    assert CODEC.encode(decimal.Decimal(number))
    payload, _ = JSON.encode([number])
    assert JSON.decoder(list[int])(payload, (), None) == [number]


@pytest.mark.parametrize("codec", [CODEC, JSON], ids=["msgpack", "json"])
def test_lone_surrogates(codec: Codec) -> None:
    message = "text with a lone surrogate is not Unicode and cannot travel: send it as bytes"
    assert refusal(codec, "a\udc80") == message
    assert refusal(codec, {"x": ["ok", "a\udc80"]}) == f"{message} - at `$.x[1]`"


@pytest.mark.parametrize("codec", [CODEC, JSON], ids=["msgpack", "json"])
def test_values_that_hold_themselves(codec: Codec) -> None:
    endless: list[Any] = []
    endless.append({"again": endless})
    assert refusal(codec, endless) == "the value is nested too deeply, or holds itself"
    looped = [Foo(), endless]
    assert "values of type Foo" in refusal(codec, looped) or "nested" in refusal(codec, looped)
    with pytest.raises(EncodeError, match=r"nested too deeply"):
        CODEC.encode_arguments((bytes(70_000), endless), {})


def test_a_released_view() -> None:
    view = memoryview(b"x")
    view.release()
    for codec in (CODEC, JSON):
        assert refusal(codec, [view]).startswith("the value cannot travel: ")


def test_a_strided_view_in_json() -> None:
    assert "not C-contiguous" in refusal(JSON, memoryview(b"abcd")[::2])


def test_keys_that_json_has_no_text_for() -> None:
    assert refusal(JSON, {(1, 2): 3}).startswith("values of type tuple cannot travel")


def test_a_reason_of_its_own() -> None:
    bad = Foo()
    error = encode_error(UnfitError(bad, "no Foo today"), {"a": bad}, "")
    assert str(error) == "no Foo today - at `$.a`"
    assert str(encode_error(UnfitError(bad, "no Foo today"), {"a": 1}, "")) == "no Foo today"
    assert encode_error(error, None, "") is error
