"""Words and JSON become what a JSON Schema asks for."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
from typing import Any, Literal

import hypothesis
import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import duplex
from duplex.cli._output import to_json
from duplex.cli._values import from_json, from_word, live_word, parse_json
from duplex.codec import CODECS
from duplex.service._schema import describe_method


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Blob(msgspec.Struct, tag=True):
    data: bytes
    parent: Blob | None = None


class Note(msgspec.Struct, tag=True):
    data: str


def schema_of(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What reflection sends of a type."""
    (schema,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return schema, defs


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (int, "5", 5),
        (int, "-5", -5),
        (float, "5", 5.0),
        (float, "-1e3", -1000.0),
        (float, "inf", float("inf")),
        (bool, "true", True),
        (bool, "False", False),
        (None, "null", None),
        (None, "None", None),
        (str, "5", "5"),
        (str, '"quoted"', '"quoted"'),
        (str, "null", "null"),
        (str, "", ""),
        (bytes, "aGk=", b"hi"),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (tuple[int, bytes], '[1, "aGk="]', [1, b"hi"]),
        (dt.datetime, "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        (Colour, "green", "green"),
        (Literal["a", 1], "a", "a"),
        (Literal["a", 1], "1", 1),
        (Any, "5", 5),
        (Any, "[1, {}]", [1, {}]),
        (Any, "true", True),
        (Any, "hello", "hello"),
        (Any, "[1,", "[1,"),
        (int | None, "5", 5),
        (int | None, "null", None),
        (str | None, "5", "5"),
        (str | None, "null", None),
        (int | str, "5", 5),
        (int | str, "five", "five"),
        (int | float, "5", 5),
        (int | float, "5.5", 5.5),
        (list[int] | str, "[1]", [1]),
        (list[int] | str, "{1]", "{1]"),
        (Blob, '{"type": "Blob", "data": "aGk="}', {"type": "Blob", "data": b"hi"}),
    ],
)
def test_a_word_becomes_the_type(kind: Any, word: str, value: Any) -> None:
    schema, defs = schema_of(kind)
    result = from_word(word, schema, defs)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("kind", "word", "message"),
    [
        (int, "x", "'x' is not a whole number"),
        (int, "1.5", "'1.5' is not a whole number"),
        (float, "x", "'x' is not a number"),
        (bool, "1", "'1' is neither true nor false"),
        (None, "0", "'0' is not null"),
        (bytes, "hello", "bytes are written in base64, which 'hello' is not"),
        (bytes, "x" * 41, "which '" + "x" * 40 + "...' is not"),
        (list[int], "5", "'5' is not a JSON array"),
        (list[int], "[1", "'[1' is not a JSON array: not JSON"),
        (dict[str, int], "[]", "'[]' is not a JSON object"),
        (Colour, "blue", "'blue' is none of green, red"),
        (Literal["a", 1], "true", "'true' is none of 1, a"),
        (int | None, "x", "'x' fits none of the types in int or None"),
    ],
)
def test_a_word_that_does_not_fit(kind: Any, word: str, message: str) -> None:
    schema, defs = schema_of(kind)
    with pytest.raises(ValueError) as caught:
        from_word(word, schema, defs, "int or None")
    assert message in str(caught.value)


def test_types_in_a_list_are_a_union() -> None:
    assert from_word("5", {"type": ["integer", "null"]}, {}) == 5
    assert from_word("null", {"type": ["integer", "null"]}, {}) is None


def test_one_of_is_a_union() -> None:
    assert from_word("x", {"oneOf": [{"type": "integer"}, {"type": "string"}]}, {}) == "x"


def test_what_a_schema_cannot_say_takes_anything() -> None:
    assert from_word("[5]", {"description": "a Thing"}, {}) == [5]
    assert from_word("5", {"$ref": "#/$defs/Missing"}, {}) == 5


def test_references_in_a_circle_end() -> None:
    schema = {"$ref": "#/$defs/A"}
    assert from_word("5", schema, {"A": schema}) == 5
    assert from_json([5], schema, {"A": schema}) == [5]


@pytest.mark.parametrize("kind", ["callback", "send_channel", "receive_channel", "channel"])
def test_live_values_have_no_words(kind: str) -> None:
    schema = {"x-duplex": kind}
    assert live_word(schema) in ("a callback", "a channel")
    with pytest.raises(ValueError, match="cannot be passed from the command line"):
        from_word("x", schema, {})


def test_ordinary_schemas_are_not_live() -> None:
    assert live_word({}) is None
    assert live_word({"x-duplex": "ndarray"}) is None


ARRAY = {"type": "object", "x-duplex": "ndarray"}


def test_nested_lists_become_arrays() -> None:
    array = from_word("[[1, 2], [3, 4]]", ARRAY, {}, "NDArray[float64]")
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float64
    assert array.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("type_text", ["", "ndarray", "NDArray[integer]", "NDArray[nothing]"])
def test_arrays_without_an_exact_type_take_that_of_their_items(type_text: str) -> None:
    assert from_json([1, 2], ARRAY, {}, type_text).dtype == np.int64


@pytest.mark.parametrize("word", ['["a"]', "[[1], [2, 3]]", "[{}]"])
def test_lists_that_are_no_arrays(word: str) -> None:
    with pytest.raises(ValueError, match="no array"):
        from_word(word, ARRAY, {}, "NDArray[float64]")


def test_lists_of_objects_are_no_arrays() -> None:
    with pytest.raises(ValueError, match="no array: it holds something other than numbers"):
        from_json([{}], ARRAY, {})


def test_arrays_need_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(ValueError, match=r"install duplex-rpc\[numpy\]"):
        from_json([1], ARRAY, {})


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (bytes, "aGk=", b"hi"),
        (bytes | None, "aGk=", b"hi"),
        (bytes | None, None, None),
        (list[bytes], ["aGk="], [b"hi"]),
        (dict[str, bytes], {"a": "aGk="}, {"a": b"hi"}),
        (tuple[int, bytes], [1, "aGk="], [1, b"hi"]),
        (tuple[int, bytes], [1, "aGk=", "aGk="], [1, b"hi", "aGk="]),
        (Blob | Note, {"type": "Blob", "data": "aGk="}, {"type": "Blob", "data": b"hi"}),
        (Blob | Note, {"type": "Note", "data": "aGk="}, {"type": "Note", "data": "aGk="}),
        (Blob | Note, {"type": "Other", "data": "aGk="}, {"type": "Other", "data": "aGk="}),
        (list[Blob], [{"data": "aGk=", "parent": {"data": ""}}], [{"data": "aGk=", "parent": {"data": ""}}]),
        (Any, {"a": ["aGk="]}, {"a": ["aGk="]}),
        (list, ["aGk="], ["aGk="]),
        (int, "x", "x"),
        (int, [1], [1]),
    ],
)
def test_json_becomes_bytes_where_the_schema_has_them(kind: Any, value: Any, result: Any) -> None:
    schema, defs = schema_of(kind)
    assert from_json(value, schema, defs) == result


def test_bytes_may_lie_deep() -> None:
    schema, defs = schema_of(list[Blob])
    blob = {"type": "Blob", "data": "aGk="}
    value = from_json([{**blob, "parent": blob}], schema, defs)
    assert value == [{"type": "Blob", "data": b"hi", "parent": {"type": "Blob", "data": b"hi"}}]


def test_json_says_where_it_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^not JSON: .*byte 1"):
        parse_json("{x}")
    with pytest.raises(ValueError, match=r"^not JSON: "):
        parse_json("[" * 100_000)


@hypothesis.given(st.text())
def test_every_word_is_a_string(word: str) -> None:
    assert from_word(word, {"type": "string"}, {}) == word


@hypothesis.given(st.text(), st.sampled_from([int, float, bool, int | None, list[int] | bytes, Colour]))
def test_a_word_fits_or_is_refused(word: str, kind: Any) -> None:
    schema, defs = schema_of(kind)
    # Nothing else than ValueError comes out.
    with contextlib.suppress(ValueError):
        from_word(word, schema, defs)


def described_schema(annotation: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What reflection says of a parameter of a type."""

    async def method(value: Any) -> None:
        """See the annotation."""

    method.__annotations__["value"] = annotation
    service = duplex.Service("s")
    service.rpc(method)
    described = describe_method(service.methods["method"])
    return described.parameters[0].schema, described.defs


NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, 1.5, -0.0]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        *((number, float) for number in NUMBERS),
        (NUMBERS, list[float]),
        ({"a": NUMBERS}, dict[str, list[float | None]]),
        ((math.nan, "NaN", None), tuple[float, str, float | None]),
        ([dt.datetime(2024, 1, 2, 3, 4), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)], list[dt.datetime]),
        (np.array([1.5, math.nan, -math.inf]), NDArray[np.float64]),
    ],
    ids=repr,
)
def test_what_is_printed_can_be_given(value: Any, annotation: Any) -> None:
    schema, defs = described_schema(annotation)
    printed = to_json(value)
    given = from_json(parse_json(printed.decode()), schema, defs, "NDArray[float64]")
    assert to_json(given) == printed
    assert to_json(CODECS["msgpack"].decoder(annotation)(*CODECS["msgpack"].encode(given), None)) == printed
    assert from_word(printed.decode(), schema, defs, "NDArray[float64]") is not None


def test_text_stays_text() -> None:
    for schema in ({"type": ["number", "string"]}, {"type": "string"}, {}):
        assert from_json("NaN", schema, {}) == "NaN"
