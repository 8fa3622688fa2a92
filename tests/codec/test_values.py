"""Which values msgpack brings back, with and without their type."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex._errors import DecodeError
from duplex.codec import CODECS, LiveKind, MsgpackCodec
from tests.codec.helpers import CODEC, FakeLive, Remote, through

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Place(NamedTuple):
    x: int
    y: float = 0.5


class Options(TypedDict, total=False):
    deep: bool
    depth: int


@dataclass
class Item:
    name: str
    price: decimal.Decimal
    tags: list[str] = field(default_factory=list)


@attrs.define
class Box:
    size: int
    label: str = ""


class Order(msgspec.Struct, tag=True):
    number: int
    items: list[Item]
    parent: Order | None = None


class Refund(msgspec.Struct, tag=True):
    amount: Annotated[int, msgspec.Meta(gt=0)]


UTC = dt.UTC
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, bool),
    (2**64 - 1, int),
    (-(2**63), int),
    (1.5, float),
    (3, float),
    ("naïve 🙂", str),
    (b"\xff\x00", bytes),
    (bytearray(b"ab"), bytearray),
    ([1, 2], list[int]),
    ((1, "x"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ({"a": [1]}, dict[str, list[int]]),
    ({1: "x", -2: "y"}, dict[int, str]),
    ({(1, 2): 3.0}, dict[tuple[int, int], float]),
    ({b"key": 1}, dict[bytes, int]),
    ({uuid.UUID(int=7): True}, dict[uuid.UUID, bool]),
    (dt.datetime(2024, 2, 29, 1, 2, 3, 456_789, UTC), dt.datetime),
    (dt.datetime(2024, 2, 29, 1, 2, 3), dt.datetime),
    (dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime),
    (dt.date(2024, 2, 29), dt.date),
    (dt.time(23, 59, 59, 1), dt.time),
    (dt.timedelta(days=-3, microseconds=5), dt.timedelta),
    (decimal.Decimal("1.100"), decimal.Decimal),
    (uuid.UUID(int=2**127 + 1), uuid.UUID),
    (Colour.BLUE, Colour),
    (Level.HIGH, Level),
    (Place(1), Place),
    (Options(depth=3), Options),
    (Item("pen", decimal.Decimal("0.5"), ["x"]), Item),
    (Box(3, "x"), Box),
    (Order(1, [Item("a", decimal.Decimal(2))], Order(2, [])), Order),
    ([Order(1, []), Refund(5)], list[Order | Refund]),
    ("left", Literal["left", "right"]),
    (None, Order | None),
    ({"x": None, "y": 3}, dict[str, int | None]),
]


@pytest.mark.parametrize(("value", "annotation"), VALUES, ids=lambda part: repr(part)[:40])
def test_a_typed_value_comes_back_equal_and_of_its_type(value: Any, annotation: Any) -> None:
    payload, attachments = CODEC.encode(value)
    assert not attachments
    back = CODEC.decoder(annotation)(payload, attachments, None)
    assert back == value
    if annotation is not float:
        assert type(back) is type(value)


@pytest.mark.parametrize(("value", "annotation"), VALUES, ids=lambda part: repr(part)[:40])
def test_two_phases_give_what_one_gives(value: Any, annotation: Any) -> None:
    back = CODEC.convert(through(value), annotation)
    assert back == value
    assert type(back) is type(through(value, annotation))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, {2}), [1, [2]]),
        (decimal.Decimal("1.5"), "1.5"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, tzinfo=UTC), dt.datetime(2024, 1, 2, tzinfo=UTC)),
        (dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 2)),
        (Colour.RED, "red"),
        (Place(1, 2.0), [1, 2.0]),
        (Item("a", decimal.Decimal(1)), {"name": "a", "price": "1", "tags": []}),
        (Refund(1), {"type": "Refund", "amount": 1}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
    ],
)
def test_without_a_type_the_plain_form_comes_back(value: Any, plain: Any) -> None:
    assert through(value) == plain
    assert through([value], object) == [plain]


@dataclass
class Event:
    at: dt.datetime
    until: dt.datetime | None = None


LOCAL = dt.datetime(2024, 2, 29, 1, 2, 3, 456_789)
ZONED = LOCAL.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (LOCAL, LOCAL),
        (dt.datetime.min, dt.datetime.min),
        ([LOCAL, ZONED, str(LOCAL), LOCAL.isoformat()], [LOCAL, ZONED, str(LOCAL), LOCAL.isoformat()]),
        ({"a": {LOCAL}, "b": (LOCAL, len)}, {"a": [LOCAL], "b": [LOCAL, Remote(LiveKind.CALLBACK, 1)]}),
        (Event(LOCAL, ZONED), {"at": LOCAL, "until": ZONED}),
        (
            Item("2024-01-02T00:00:00", decimal.Decimal(1)),
            {"name": "2024-01-02T00:00:00", "price": "1", "tags": []},
        ),
        ({LOCAL: 1}, {LOCAL.isoformat(): 1}),
        ([LOCAL, b"x" * 70_000], [LOCAL, b"x" * 70_000]),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_times_without_a_zone_are_times_without_a_type_too(value: Any, plain: Any) -> None:
    live = FakeLive()
    back = through(value, live=live)
    assert repr(back) == repr(plain)
    assert repr(through(back, live=FakeLive()) if live.exported == [] else plain) == repr(plain)
    positional, keyword = CODEC.decode_arguments(*CODEC.encode_arguments((value,), {"x": value}, live), live)
    assert (repr(positional[0])[:30], repr(keyword["x"])[:30]) == (repr(plain)[:30], repr(plain)[:30])


def test_times_without_a_zone_where_a_type_is_known() -> None:
    for value in (Event(LOCAL), Event(LOCAL, ZONED), Event(dt.datetime(1, 1, 1), LOCAL)):
        assert through(value, Event) == value
        assert CODEC.convert(through(value), Event) == value
    assert through({LOCAL: 1}, dict[dt.datetime, int]) == {LOCAL: 1}
    assert through(LOCAL.isoformat(), dt.datetime) == LOCAL  # as others may send it
    for annotation, message in [
        (str, "Expected `str`, got `datetime`"),
        (Annotated[dt.datetime, msgspec.Meta(tz=True)], "Expected `datetime` with a timezone component"),
    ]:
        with pytest.raises(DecodeError, match=f"^{message}"):
            through(LOCAL, annotation)


@dataclass
class Doubled:
    number: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.number


@dataclass
class Kind(Generic[T]):
    value: T
    kind: str = field(init=False)


def test_what_a_generic_class_computes_is_told_too() -> None:
    with pytest.raises(DecodeError, match="although its class computes it"):
        through({"value": 3}, Kind[int])


def test_what_a_class_computes_is_sent_like_the_rest() -> None:
    for codec in (CODEC, CODECS["json"]):
        assert codec.decoder(Doubled)(*codec.encode(Doubled(3)), None) == Doubled(3)
        short = codec.encode([{"number": 3}])[0]
        message = (
            r"^Object missing required field `double`, which is sent like all others although its class computes it; "
            r"with a default it may be missing - at `\$\[0\]`$"
        )
        with pytest.raises(DecodeError, match=message):
            codec.decoder(list[Doubled])(short, (), None)
        with pytest.raises(DecodeError, match=message):
            codec.convert([{"number": 3}], list[Doubled])
        with pytest.raises(DecodeError, match=r"^Object missing required field `number` - at `\$\[0\]`$"):
            codec.convert([{"double": 3}], list[Doubled])


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Number(int):
    def __index__(self) -> int:
        return 99


class Real(float):
    pass


class Blob(bytes):
    pass


@pytest.mark.parametrize(
    ("value", "plain"), [(Text("x"), "x"), (Number(5), 5), (Real(1.5), 1.5), (Blob(b"x"), b"x")]
)
def test_subclasses_of_plain_types_travel_as_those(value: Any, plain: Any) -> None:
    back = through([value, {value: value}])
    assert back == [plain, {plain: plain}]
    assert type(back[0]) is type(plain)
    assert through([value, len], live=FakeLive())[0] == plain


def test_floats_beyond_numbers() -> None:
    assert math.isnan(through(math.nan, float))
    assert through(-math.inf, float) == -math.inf


_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
_plain = st.recursive(
    _scalars | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-(2**63), 2**64 - 1), inner),
    max_leaves=10,
)


@given(_plain)
def test_every_plain_value_comes_back(value: Any) -> None:
    assert through(value) == value
    assert CODEC.convert(value, Any) is value


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "x", "Expected `int`, got `str`"),
        (
            Order,
            {"type": "Order", "number": 1, "items": [{"name": "a", "price": []}]},
            "Expected `decimal`, got `array` - at `$.items[0].price`",
        ),
        (list[int], [1, "2"], "Expected `int`, got `str` - at `$[1]`"),
        (dict[int, int], {"1": 1}, "Expected `int`, got `str` - at `key` in `$`"),
        (dict[str, int], {"$[0]": "`$[0]"}, "Expected `int`, got `str` - at `$[...]`"),
        (Refund, {"amount": 0}, "Expected `int` >= 1 - at `$.amount`"),
        (bytes, "YWJj", "Expected `bytes`, got `str`"),
        (tuple[bytes], ["YWJj"], "Expected `bytes`, got `str` - at `$[0]`"),
    ],
)
def test_both_ways_name_the_bad_field(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        through(value, annotation)
    assert str(caught.value) == message
    with pytest.raises(DecodeError) as caught:
        CODEC.convert(value, annotation)
    assert str(caught.value) == message


def test_what_a_user_refuses_is_told_with_its_place() -> None:
    class Even(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("must be even")

    assert through({"number": 2}, Even).number == 2
    with pytest.raises(DecodeError, match=r"^must be even - at `\$\[1\]`$"):
        through([{"number": 2}, {"number": 3}], list[Even])


def test_codecs_share_nothing() -> None:
    assert MsgpackCodec().decoder(int) is not CODEC.decoder(int)
    assert CODEC.name == "msgpack"
