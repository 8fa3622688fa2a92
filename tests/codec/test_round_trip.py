"""Whatever travels arrives equal, or is refused when it is sent: values of random types, nested in each other, from type
to type, and through somebody who knows no type."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
)

import attrs
import hypothesis.extra.numpy as npst
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from duplex._errors import ConfigurationError, EncodeError
from duplex.codec import Codec
from tests.codec.helpers import CODEC, JSON

T = TypeVar("T")
Strategy: TypeAlias = st.SearchStrategy[Any]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(enum.StrEnum):
    METRE = "m"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Mode(enum.IntFlag):
    A = 1
    B = 4


@dataclass
class Plain(Generic[T]):
    value: T
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Slots(Generic[T]):
    value: T
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Frozen(Generic[T]):
    count: int = 1
    value: T


@dataclass
class Child(Plain[T]):
    more: T | None = None


@dataclass
class Computed(Generic[T]):
    value: T
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = type(self.value).__name__


@attrs.define
class Attrs(Generic[T]):
    value: T
    count: int = 1


@attrs.define(slots=False)
class AttrsWithoutSlots(Generic[T]):
    value: T
    count: int = attrs.field(default=1, kw_only=True)


class Struct(msgspec.Struct, Generic[T]):
    value: T
    count: int = 1


class Tagged(msgspec.Struct, Generic[T], tag="t", omit_defaults=True):
    value: T
    count: int = 1
    unset: int | msgspec.UnsetType = msgspec.UNSET


class Renamed(msgspec.Struct, Generic[T], rename="camel", frozen=True):
    the_value: T
    a_count: int = 1


class Row(msgspec.Struct, Generic[T], array_like=True):
    value: T
    count: int = 1


class Pair(NamedTuple, Generic[T]):
    value: T
    count: int = 1  # type: ignore[assignment]


class Options(TypedDict, Generic[T], total=False):
    value: Required[T]
    count: NotRequired[int]


RECORDS: list[Any] = [
    *(Plain, Slots, Frozen, Child, Attrs, AttrsWithoutSlots, Struct, Tagged, Row, Pair, Options),
]

MINUTES = st.integers(-1439, 1439).map(lambda count: dt.timezone(dt.timedelta(minutes=count)))
INT64 = st.integers(-(2**63), 2**64 - 1)

#: Types that can be in a set or the key of a dict, with their values.
HASHABLE: list[tuple[Any, Strategy]] = [
    *((int, INT64), (str, st.text()), (bytes, st.binary()), (bool, st.booleans())),
    (float, st.floats(allow_nan=False)),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (uuid.UUID, st.uuids()),
    (dt.date, st.dates()),
    (dt.timedelta, st.timedeltas()),
    (dt.datetime, st.datetimes()),
    (dt.datetime, st.datetimes(timezones=MINUTES)),
    (dt.time, st.times(timezones=st.none() | MINUTES)),
    *((kind, st.sampled_from(kind)) for kind in (Colour, Level, Unit)),
    *((kind, st.integers(0, int(sum(kind))).map(kind)) for kind in (Mode,)),
    (Right, st.sampled_from([Right(0), Right.READ, Right.READ | Right.WRITE])),
    (tuple[int, str], st.tuples(INT64, st.text())),
    (Literal["a", 5], st.sampled_from(["a", 5])),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 2**64 - 1)),
]
ARRAYS = npst.arrays(
    st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(endianness="?"),
        npst.unsigned_integer_dtypes(endianness="?"),
        npst.floating_dtypes(endianness="?"),
        npst.complex_number_dtypes(endianness="?"),
        npst.datetime64_dtypes(endianness="?"),
        npst.timedelta64_dtypes(endianness="?"),
        npst.unicode_string_dtypes(min_len=1, max_len=9),
        npst.byte_string_dtypes(min_len=1, max_len=9),
    ),
    npst.array_shapes(min_dims=0, max_side=4),
)
#: All other types without types in them.
SCALARS: list[tuple[Any, Strategy]] = [
    *HASHABLE,
    (None, st.none()),
    (dt.datetime, st.datetimes(timezones=st.timezones())),
    (int, st.integers()),
    (float, st.floats()),
    (bytearray, st.binary().map(bytearray)),
    (memoryview, st.binary().map(memoryview)),
    (bytes, st.just(bytes(70_000))),
    (np.int16, st.integers(-(2**15), 2**15 - 1).map(np.int16)),
    (np.float32, st.floats(width=32).map(np.float32)),
    (np.bool_, st.booleans().map(np.bool_)),
    (NDArray[Any], ARRAYS),
    (NDArray[Any], ARRAYS.map(lambda array: array.T)),
    (NDArray[Any], ARRAYS.map(lambda array: array[::2] if array.ndim else array)),
    (NDArray[np.float64], st.just(np.arange(20_000.0)[::2])),
]


def of(kind: Any, parameters: Any) -> Any:
    """Return a generic type of these parameters."""
    return kind[parameters]


@st.composite
def typed(draw: st.DrawFn, depth: int = 3) -> tuple[Any, Strategy]:
    """Draw a type, and what draws its values."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        scalar: tuple[Any, Strategy] = draw(st.sampled_from(SCALARS))
        return scalar
    annotation, values = draw(typed(depth - 1))
    some = st.lists(values, max_size=3)
    match draw(st.integers(0, 8)):
        case 0:
            return of(list, annotation), some
        case 1:
            return of(tuple, (annotation, ...)), some.map(tuple)
        case 2:
            other, others = draw(typed(depth - 1))
            return of(tuple, (annotation, other)), st.tuples(values, others)
        case 3:
            key, keys = draw(st.sampled_from(HASHABLE))
            return of(dict, (key, annotation)), st.dictionaries(keys, values, max_size=3)
        case 4:
            item, items = draw(st.sampled_from(HASHABLE))
            kind = draw(st.sampled_from([set, frozenset]))
            return of(kind, item), st.sets(items, max_size=3).map(kind)
        case 5:
            return None if annotation is None else annotation | None, values | st.none()
        case 6:
            # What is computed from the value must be the same at the other side.
            return of(Computed, annotation), values.map(Computed)
        case 7:
            return of(Renamed, annotation), values.map(Renamed)
        case _:
            record = draw(st.sampled_from(RECORDS))
            counts: Strategy = st.just({}) | st.fixed_dictionaries({"count": st.integers(0, 9)})
            return of(record, annotation), st.builds(
                lambda value, more: record(value=value, **more), values, counts
            )


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype.str, one.shape, one.tobytes()) == (other.dtype.str, other.shape, other.tobytes())
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, dt.datetime) and one.tzinfo is not None:
        # Python finds a time that its zone has twice, or never, unequal to all of other zones.
        return other.tzinfo is not None and one.astimezone(dt.UTC) == other.astimezone(dt.UTC)
    names = fields_of(one)
    if names:
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other) or (one != one and other != other)


def fields_of(value: Any) -> list[str]:
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if attrs.has(type(value)):
        return [attribute.name for attribute in attrs.fields(type(value))]
    return [item.name for item in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []


def check(codec: Codec, annotation: Any, value: Any) -> bool:
    """Send a value in every manner. Returns whether the codec has not refused it."""
    try:
        decode = codec.decoder(annotation)
        sent = codec.encode(value)
    except (ConfigurationError, EncodeError):
        return False
    received = decode(*sent, None)
    assert same(received, value)
    assert same(decode(*codec.encode(received), None), value)
    unknown = codec.decoder(Any)(*sent, None)
    assert same(codec.convert(unknown, annotation), value)
    passed_on = codec.encode(unknown)
    assert same(decode(*passed_on, None), value)
    assert same(codec.decoder(Any)(*passed_on, None), unknown)
    arguments = codec.encode_arguments((value,), {"named": unknown})
    positional, keyword = codec.decode_arguments(*arguments, None)
    assert same(codec.convert(positional[0], annotation), value)
    assert same(codec.convert(keyword["named"], annotation), value)
    return True


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_it_arrives_equal_or_is_refused(data: st.DataObject) -> None:
    annotation, values = data.draw(typed())
    value = data.draw(values)
    for codec in (CODEC, JSON):
        event(f"{codec.name}: {'arrived' if check(codec, annotation, value) else 'refused'}")


@pytest.mark.parametrize("number", range(len(SCALARS)))
def test_most_is_not_refused(number: int) -> None:
    annotation, values = SCALARS[number]
    taken: dict[str, list[bool]] = {"msgpack": [], "json": []}

    @settings(max_examples=30, database=None, derandomize=True)
    @given(values)
    def run(value: Any) -> None:
        for codec in (CODEC, JSON):
            taken[codec.name].append(check(codec, annotation, value))

    run()
    assert sum(taken["msgpack"]) > len(taken["msgpack"]) // 2
    assert any(taken["json"]) == ("ndarray" not in str(annotation))
