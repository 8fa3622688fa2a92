"""For any signature and any payload: the fast way does what the slow way does, which does what Python does."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from duplex._errors import DecodeError, EncodeError, InvalidArgument
from duplex.codec import CODECS, Codec
from duplex.service import MethodSpec
from tests.service.helpers import CODEC, FakeLive, spec_of

#: A hundred signatures are inspected and compiled in each of them.
pytestmark = pytest.mark.slow


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


class Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    key: str
    values: list[int] = []


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


@dataclass
class Item:
    name: str
    price: decimal.Decimal | None = None


numbers = st.integers(-(2**63), 2**63 - 1)
small = st.integers(-3, 12)
texts = st.text(max_size=5)
moments = st.datetimes(timezones=st.just(dt.UTC))
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | small
    | st.floats()
    | small.map(float)
    | texts
    | st.sampled_from(
        ["a", "red", "1", "1.5", "2020-01-02", "2020-01-02T03:04:05Z", "03:04:05", "PT1S", "Circle"]
    )
    | st.uuids()
    | st.uuids().map(lambda value: value.bytes)
    | st.binary(max_size=5)
    | moments,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "y", "name", "price", "type", "radius", "red"]), inner, max_size=3
        )
        | st.dictionaries(st.integers(0, 3), inner, max_size=2)
    ),
    max_leaves=6,
)
points = st.builds(Point, small, st.floats(allow_nan=False))
rows = st.builds(Row, texts, st.lists(small, max_size=2))
items = st.builds(Item, texts, st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=2))

#: Types, and values that fit them.
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Any, anything),
    (object, anything),
    (int, numbers | small),
    (float, st.floats() | small),
    (bool, st.booleans()),
    (str, texts),
    (bytes, st.binary(max_size=5)),
    (bytearray, st.binary(max_size=5)),
    (memoryview, st.binary(max_size=5)),
    (None, st.none()),
    (Color, st.sampled_from(Color)),
    (Point, points),
    (Row, rows),
    (Item, items),
    (Circle | Square, st.sampled_from([Circle(1.0), Square(2.0)])),
    (dt.datetime, moments),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(-10), dt.timedelta(10))),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (Annotated[int, msgspec.Meta(ge=0, le=10)], small),
    (int | str | None, small | texts | st.none()),
    (list[int], st.lists(small, max_size=3)),
    (list[Any], st.lists(anything, max_size=2)),
    (set[int], st.lists(small, max_size=3)),
    (frozenset[str], st.lists(texts, max_size=3)),
    (tuple[int, str], st.tuples(small, texts)),
    (tuple[int, ...], st.lists(small, max_size=3)),
    (dict[str, int], st.dictionaries(texts, small, max_size=2)),
    (dict[int, Any], st.dictionaries(small, anything, max_size=2)),
    (dict[str, list[Point]], st.dictionaries(texts, st.lists(points, max_size=2), max_size=2)),
    (dict[Color, int], st.dictionaries(st.sampled_from(Color), small, max_size=2)),
]

KINDS = list(inspect._ParameterKind)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """A function of up to four parameters of any kind, and arguments that often fit it."""
    parameters: list[inspect.Parameter] = []
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    optional = False
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), max_size=4)))
    for name, kind in zip("abcd", kinds, strict=False):
        if kind in VARIADIC and any(p.kind is kind for p in parameters):
            continue
        annotation, fitting = draw(st.sampled_from(TYPES))
        default: Any = inspect.Parameter.empty
        follows_optional = optional and kind is not inspect.Parameter.KEYWORD_ONLY
        if kind not in VARIADIC and (follows_optional or draw(st.booleans())):
            default, optional = "default", True
        parameters.append(inspect.Parameter(name, kind, annotation=annotation, default=default))
        if draw(st.integers(0, 5)) == 0:
            continue
        value = draw(anything if draw(st.integers(0, 9)) == 0 else fitting)
        if kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) or (
            kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and (kwargs or draw(st.integers(0, 2)) == 0)
        ):
            kwargs[name] = value
        else:
            args.append(value)
    if draw(st.integers(0, 9)) == 0:
        args.append(draw(anything))
    if draw(st.integers(0, 9)) == 0:
        kwargs[draw(st.sampled_from("abcde"))] = draw(anything)

    return function_of(inspect.Signature(parameters)), args, kwargs


def function_of(signature: inspect.Signature) -> Callable[..., Any]:
    """A plain function with that signature. It is compiled, as ``Signature.bind`` has bugs in Python 3.11."""
    bare = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()]
    )
    names: dict[str, Any] = {}
    exec(f"def function{bare}: pass", names)
    function: Callable[..., Any] = names["function"]
    function.__annotations__ = {
        p.name: p.annotation for p in signature.parameters.values() if p.annotation is not p.empty
    }
    return function


def outcome(bind: Callable[..., Any], codec: Codec, payload: bytes) -> tuple[str, Any, Any]:
    """What comes of a payload, in a form that can be compared."""
    try:
        args, kwargs = bind(codec, payload, (), FakeLive())
    except InvalidArgument as error:
        return "refused", error.message, None
    return (
        "bound",
        [comparable(value) for value in args],
        {name: comparable(value) for name, value in kwargs.items()},
    )


def comparable(value: Any) -> Any:
    """A value with its type, so that 1, 1.0 and True differ and NaN equals itself."""
    if isinstance(value, float) and math.isnan(value):
        return float, "nan"
    if isinstance(value, (list, tuple)):
        return type(value), [comparable(item) for item in value]
    if isinstance(value, dict):
        return dict, [(comparable(key), comparable(item)) for key, item in value.items()]
    if isinstance(value, memoryview):
        return memoryview, bytes(value)
    if isinstance(value, (Point, Row, Item, Circle, Square)):
        return type(value), repr(value)
    return type(value), value


def encoded(codec: Codec, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    payload, attachments = codec.encode_arguments(args, kwargs)
    assert not attachments
    return payload


@pytest.mark.parametrize("name", ["msgpack", "json"])
@given(called=calls())
def test_the_fast_way_does_what_the_slow_way_does(name: str, called: Any) -> None:
    function, args, kwargs = called
    codec = CODECS[name]
    spec = spec_of(function)
    try:
        payload = encoded(codec, args, kwargs)
    except EncodeError as error:
        if name != "json" or "NaN and the infinities" not in str(error):
            raise
        return
    slow = outcome(spec._binder.bind_slowly, codec, payload)
    event(slow[0])
    assert outcome(spec.arguments, codec, payload) == slow
    assert outcome(spec.arguments, codec, payload) == slow, "the second time everything is compiled"


@given(called=calls())
def test_what_is_bound_fits_the_function(called: Any) -> None:
    function, args, kwargs = called
    spec = spec_of(function)
    payload = encoded(CODEC, args, kwargs)
    try:
        bound_args, bound_kwargs = spec.arguments(CODEC, payload, (), FakeLive())
    except InvalidArgument:
        return
    assert (len(bound_args), set(bound_kwargs)) == (len(args), set(kwargs))
    function(*bound_args, **bound_kwargs)


@given(called=calls())
def test_without_types_everything_is_accepted_that_python_accepts(called: Any) -> None:
    function, args, kwargs = called
    function.__annotations__.clear()
    spec = spec_of(function)
    payload = encoded(CODEC, args, kwargs)
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidArgument):
            spec.arguments(CODEC, payload, (), FakeLive())
    else:
        bound_args, bound_kwargs = spec.arguments(CODEC, payload, (), FakeLive())
        assert (len(bound_args), set(bound_kwargs)) == (len(args), set(kwargs))


def check_refusal(spec: MethodSpec, codec: Codec, payload: bytes, attachments: list[bytes]) -> None:
    """Bind, and let only a refusal pass that is worded as it should be."""
    message = spec.method
    try:
        spec.arguments(codec, payload, attachments, FakeLive())
    except InvalidArgument as error:
        message = error.message
    assert message.startswith(spec.method)
    assert len(message) < 1000


@pytest.mark.parametrize("name", list(CODECS))
@given(
    called=calls(), payload=st.binary(max_size=40), attachments=st.lists(st.binary(max_size=3), max_size=2)
)
def test_hostile_bytes_are_refused_and_no_more(
    name: str, called: Any, payload: bytes, attachments: list[bytes]
) -> None:
    check_refusal(spec_of(called[0]), CODECS[name], payload, attachments)


@given(called=calls(), data=st.data())
def test_hostile_changes_are_refused_and_no_more(called: Any, data: st.DataObject) -> None:
    function, args, kwargs = called
    changed = bytearray(encoded(CODEC, args, kwargs))
    for _ in range(data.draw(st.integers(1, 2))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    spec, payload = spec_of(function), bytes(changed)
    check_refusal(spec, CODEC, payload, [])
    slow = outcome(spec._binder.bind_slowly, CODEC, payload)
    event(slow[0])
    fast = outcome(spec.arguments, CODEC, payload)
    if fast != slow:
        # Fields that a type does not know are skipped, and what is skipped is not decoded.
        assert (fast[0], slow[0]) == ("bound", "refused")
        with pytest.raises(DecodeError):
            CODEC.decode_arguments(payload, (), None)
