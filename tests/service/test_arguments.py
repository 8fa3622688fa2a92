"""Binding: what a payload becomes, and what is said of one that does not fit."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from duplex._errors import InvalidArgument
from duplex.codec import CODECS, MsgpackCodec
from tests.service.helpers import CODEC, FakeCallback, FakeLive, FakeReceive, call, call_raw, refusal, spec_of


@dataclass
class Item:
    name: str
    price: float


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    depth: int


class Color(enum.Enum):
    RED = "red"


async def nothing() -> None: ...
async def add(a: int, b: int) -> int: ...  # type: ignore[empty-body]
async def power(base: float, exponent: float = 2.0, /) -> float: ...  # type: ignore[empty-body]
async def scale(value: int, *, by: int, shift: int = 0) -> int: ...  # type: ignore[empty-body]
async def options_only(*, verbose: bool = False) -> None: ...
async def total(*numbers: int) -> int: ...  # type: ignore[empty-body]
async def join(separator: str, *parts: str, upper: bool = False) -> str: ...  # type: ignore[empty-body]
async def tags(name: str, **values: list[int]) -> None: ...
async def shadow(name: str, /, **values: int) -> None: ...
async def loose(a, b=1): ...  # type: ignore[no-untyped-def]
async def buy(items: list[Item], by_name: dict[str, Item] | None = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (nothing, [], {}, ((), {})),
        (add, [1, 2], {}, ((1, 2), {})),
        (add, [1], {"b": 2}, ((1,), {"b": 2})),
        (add, [], {"b": 2, "a": 1}, ((), {"a": 1, "b": 2})),
        (power, [2], {}, ((2.0,), {})),
        (power, [2, 3], {}, ((2.0, 3.0), {})),
        (scale, [1], {"by": 2}, ((1,), {"by": 2})),
        (scale, [1], {"by": 2, "shift": 3}, ((1,), {"by": 2, "shift": 3})),
        (options_only, [], {}, ((), {})),
        (total, [], {}, ((), {})),
        (total, [1, 2, 3], {}, ((1, 2, 3), {})),
        (join, ["-"], {}, (("-",), {})),
        (join, ["-", "a", "b"], {"upper": True}, (("-", "a", "b"), {"upper": True})),
        (join, [], {"separator": "-"}, ((), {"separator": "-"})),
        (tags, ["n"], {"a": [1], "b": []}, (("n",), {"a": [1], "b": []})),
        (tags, [], {"name": "n"}, ((), {"name": "n"})),
        (shadow, ["n"], {"name": 1}, (("n",), {"name": 1})),
        (loose, ["x", None], {}, (("x", None), {})),
        (loose, [{"k": [1]}], {}, (({"k": [1]},), {})),
        (buy, [[Item("a", 1)]], {}, (([Item("a", 1.0)],), {})),
        (buy, [[], {"k": Item("a", 1)}], {}, (([], {"k": Item("a", 1.0)}), {})),
    ],
)
def test_what_fits_is_bound(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    spec = spec_of(function)
    bound = call_raw(spec, args, kwargs)
    assert bound == expected
    assert call_raw(spec, args, kwargs) == expected, "the second time everything is compiled"
    function(*bound[0], **bound[1]).close()


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (nothing, [1], {}, "calc.nothing takes no arguments, got 1"),
        (nothing, [], {"c": 1}, "calc.nothing: unknown argument 'c'; it takes no arguments"),
        (add, [1, 2, 3], {}, "calc.add takes 2 arguments (a, b), got 3"),
        (add, [1], {}, "calc.add: missing argument 'b'"),
        (add, [], {}, "calc.add: missing arguments 'a', 'b'"),
        (add, [], {"b": 1}, "calc.add: missing argument 'a'"),
        (add, [1, "x"], {}, "calc.add: argument 'b': expected `int`, got `str`"),
        (add, [1], {"b": "x"}, "calc.add: argument 'b': expected `int`, got `str`"),
        (add, [1], {"c": 2}, "calc.add: unknown argument 'c'; it takes a, b"),
        (add, [1, 2], {"c": 2}, "calc.add: unknown argument 'c'; it takes a, b"),
        (add, [1, 2], {"b": 2}, "calc.add: argument 'b' is given twice, by position and by name"),
        (add, [None, 2], {}, "calc.add: argument 'a': expected `int`, got `null`"),
        (power, [], {}, "calc.power: missing argument 'base'"),
        (power, [1, 2, 3], {}, "calc.power takes 1 to 2 arguments (base, exponent=...), got 3"),
        (
            power,
            [1],
            {"exponent": 2},
            "calc.power: argument 'exponent' must be given by position, not by name",
        ),
        (scale, [1], {}, "calc.scale: missing argument 'by'"),
        (scale, [1, 2], {}, "calc.scale takes 1 positional argument (value), got 2"),
        (scale, [1], {"to": 2}, "calc.scale: unknown argument 'to'; it takes value, by, shift"),
        (options_only, [1], {}, "calc.options_only takes no positional arguments, got 1"),
        (total, [1, 2, "x"], {}, "calc.total: argument 'numbers'[2]: expected `int`, got `str`"),
        (join, [], {}, "calc.join: missing argument 'separator'"),
        (
            join,
            ["-"],
            {"separator": "-"},
            "calc.join: argument 'separator' is given twice, by position and by name",
        ),
        (tags, ["n"], {"a": ["x"]}, "calc.tags: argument 'a'[0]: expected `int`, got `str`"),
        (shadow, [], {"name": 1}, "calc.shadow: missing argument 'name'"),
        (
            buy,
            [[Item("a", 1), {"name": "b"}]],
            {},
            "calc.buy: argument 'items'[1]: object missing required field `price`",
        ),
        (
            buy,
            [[{"name": "a", "price": "1"}]],
            {},
            "calc.buy: argument 'items'[0].price: expected `float`, got `str`",
        ),
        (
            buy,
            [[], {"k": {"name": 1}}],
            {},
            "calc.buy: argument 'by_name'[...].name: expected `str`, got `int`",
        ),
        (buy, [[], {1: {}}], {}, "calc.buy: argument 'by_name' key: expected `str`, got `int`"),
    ],
)
def test_what_does_not_fit_is_named(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], message: str
) -> None:
    spec = spec_of(function)
    assert refusal(spec, *args, **kwargs) == message
    assert refusal(spec, *args, **kwargs) == message, "the second time everything is compiled"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (Annotated[int, msgspec.Meta(ge=0)], 0),
        (Literal["a", 1], "a"),
        (Color, Color.RED),
        (dt.datetime, dt.datetime(2020, 1, 2, 3, 4, tzinfo=dt.UTC)),
        (dt.date, dt.date(2020, 1, 2)),
        (dt.timedelta, dt.timedelta(seconds=1.5)),
        (uuid.UUID, uuid.UUID(int=7)),
        (decimal.Decimal, decimal.Decimal("1.50")),
        (bytes, b"\x00\xff"),
        (bytearray, bytearray(b"x")),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (dict[int, str], {1: "a"}),
        (Options, {"depth": 1}),
        (Point, Point(1, 2)),
        (Point | None, None),
        (list[Point], [Point(1)]),
    ],
)
def test_types_arrive_as_themselves(annotation: Any, value: Any) -> None:
    async def take(value: Any, other: Any = None) -> None: ...

    take.__annotations__["value"] = annotation
    spec = spec_of(take)
    for args, kwargs in (([value], {}), ([], {"value": value}), ([value, 1], {})):
        bound_args, bound_kwargs = call_raw(spec, args, kwargs)
        arrived = bound_args[0] if bound_args else bound_kwargs["value"]
        assert arrived == value
        assert type(arrived) is type(value)


def test_constraints_are_checked() -> None:
    async def take(count: Annotated[int, msgspec.Meta(ge=1)], color: Color = Color.RED) -> None: ...

    spec = spec_of(take)
    assert refusal(spec, 0) == "calc.take: argument 'count': expected `int` >= 1"
    assert refusal(spec, 1, "blue") == "calc.take: argument 'color': invalid enum value 'blue'"


def test_arrays_and_large_buffers_arrive_where_they_are() -> None:
    async def take(data: bytes, array: npt.NDArray[np.float64], view: memoryview | None = None) -> None: ...

    spec = spec_of(take)
    data, array, view = b"x" * 200_000, np.arange(20_000.0), memoryview(b"y" * 100_000)
    (got_data, got_array, got_view), _ = call(spec, data, array, view)
    assert got_data == data
    assert (got_array == array).all()
    assert isinstance(got_view, memoryview)
    assert got_view == view
    (got_data,), rest = call(spec, data, array=array, view=view)
    assert got_data == data
    assert (rest["array"] == array).all()
    assert isinstance(rest["view"], memoryview)


def test_large_buffers_of_a_plain_signature() -> None:
    async def take(data: bytes, name: str = "") -> None: ...

    spec = spec_of(take)
    data = b"x" * 200_000
    assert call(spec, data) == ((data,), {})
    assert call(spec, data, "n") == ((data, "n"), {})
    assert call(spec, data, name="n") == ((data,), {"name": "n"})
    assert refusal(spec, data, 1) == "calc.take: argument 'name': expected `str`, got `int`"


def test_arrays_by_name_and_their_refusal() -> None:
    async def take(array: npt.NDArray[np.float64], *, other: npt.NDArray[np.int64]) -> None: ...

    spec = spec_of(take)
    args, kwargs = call(spec, np.zeros(2), other=np.ones(3, dtype=np.int64))
    assert args[0].shape == (2,)
    assert kwargs["other"].shape == (3,)
    assert refusal(spec, np.zeros(2)) == "calc.take: missing argument 'other'"
    assert refusal(spec, [1], other=[2]) == "calc.take: argument 'array': expected `ndarray`, got `list`"


def test_live_values_are_imported_once_whatever_happens() -> None:
    async def each(items: list[int], visit: Any, *, more: int = 0) -> None: ...

    spec = spec_of(each)
    visit = FakeCallback()
    assert call(spec, [1], visit) == (([1], visit), {})
    assert call(spec, [1], visit, more=1) == (([1], visit), {"more": 1})
    assert call(spec, [1], visit=visit) == (([1],), {"visit": visit})
    assert refusal(spec, ["x"], visit) == "calc.each: argument 'items'[0]: expected `int`, got `str`"


def test_a_channel_where_something_else_is_expected() -> None:
    assert "argument 'b'" in refusal(spec_of(add), 1, FakeReceive())


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "text",
        [],
        [1],
        [[], {}, 1],
        [{}],
        [[], []],
        [[1, 2], None],
        {"positional": [1, 2]},
        [[1], {1: 2}],
    ],
)
def test_payloads_of_another_shape(value: Any) -> None:
    payload, _ = CODEC.encode(value)
    with pytest.raises(InvalidArgument, match=r"^calc\.add: arguments must be an array"):
        spec_of(add).arguments(CODEC, payload, (), FakeLive())


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x91", b"\x91\x92\x01", b"\x91\x92\x01\x02\x00", b"\x91" * 5000]
)
def test_payloads_that_are_no_msgpack(payload: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"^calc\.add: "):
        spec_of(add).arguments(CODEC, payload, (), None)


def test_attachments_that_belong_to_nothing() -> None:
    payload, _ = CODEC.encode([[1, 2]])
    for function in (add, total):
        with pytest.raises(InvalidArgument, match=r"^calc\.\w+: .* 1 of 1 attachments"):
            spec_of(function).arguments(CODEC, payload, [b"stray"], None)


def test_what_is_quoted_has_an_end() -> None:
    assert len(refusal(spec_of(add), **{"n" * 100_000: 1})) < 500
    assert len(refusal(spec_of(colored), "n" * 100_000)) < 500


async def colored(color: Color) -> None: ...


def test_another_codec_is_compiled_for_anew() -> None:
    spec = spec_of(add)
    other = MsgpackCodec()
    assert call_raw(spec, [1, 2], {}) == ((1, 2), {})
    assert call_raw(spec, [1, 2], {}, other) == ((1, 2), {})
    assert call_raw(spec, [1, 2], {}) == ((1, 2), {})


def test_codecs_that_carry_less() -> None:
    async def store(data: bytes, name: str = "") -> None: ...
    async def take(data): ...  # type: ignore[no-untyped-def]

    raw, json = CODECS["raw"], CODECS["json"]
    payload, attachments = raw.encode_arguments([b"abc"], {})
    for function, expected in ((store, b"abc"), (take, b"abc")):
        args, kwargs = spec_of(function).arguments(raw, payload, attachments, None)
        assert (list(args), dict(kwargs)) == ([expected], {})
        assert type(args[0]) is bytes
    with pytest.raises(InvalidArgument, match=r"^calc\.buy cannot be called with the codec 'raw': "):
        spec_of(buy).arguments(raw, payload, attachments, None)
    payload, attachments = json.encode_arguments([b"abc"], {"name": "n"})
    assert spec_of(store).arguments(json, payload, attachments, None) == ((b"abc",), {"name": "n"})


def test_defaults_are_left_to_python() -> None:
    marker = object()

    async def take(a: int, b: Any = marker, *, c: Any = marker) -> tuple[Any, Any, Any]: ...  # type: ignore[empty-body]

    assert call(spec_of(take), 1) == ((1,), {})


def test_parameters_may_have_the_names_of_special_methods() -> None:
    async def take(__post_init__: int, __struct_fields__: int = 1) -> None: ...

    assert call(spec_of(take), 1, __struct_fields__=2) == ((1,), {"__struct_fields__": 2})


def test_partials_take_what_is_left() -> None:
    spec = spec_of(functools.partial(scale, by=3), name="triple")
    assert call(spec, 5) == ((5,), {})
    assert call(spec, 5, by=4) == ((5,), {"by": 4})
    first = spec_of(functools.partial(add, 1), name="increment")
    assert call(first, 2) == ((2,), {})
    assert refusal(first, 2, 3) == "calc.increment takes 1 argument (b), got 2"


class Once:
    """The msgpack codec, which does not decode arguments without their types."""

    name = "msgpack"

    def decoder(self, annotation: Any) -> Any:
        return CODEC.decoder(annotation)

    def decode_arguments(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("all of it was decoded")


PAD = "x" * 70_000


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ([[5]], {}, "calc.buy: argument 'items'[0]: expected `object`, got `int`"),
        ([5], {}, "calc.buy: argument 'items': expected `array`, got `int`"),
        (
            [[{"name": "a", "price": "b"}]],
            {},
            "calc.buy: argument 'items'[0].price: expected `float`, got `str`",
        ),
        ([[{"price": 1.0}]], {}, "calc.buy: argument 'items'[0]: object missing required field `name`"),
        ([[], {"a": 1}], {}, "calc.buy: argument 'by_name'[...]: expected `object`, got `int`"),
        ([[], {1: {}}], {}, "calc.buy: argument 'by_name' key: expected `str`, got `int`"),
        ([], {"items": [{"name": 1}]}, "calc.buy: argument 'items'[0].name: expected `str`, got `int`"),
        (
            [],
            {"items": [], "by_name": 5},
            "calc.buy: argument 'by_name': expected `object | null`, got `int`",
        ),
    ],
)
def test_large_arguments_are_refused_at_the_first_mismatch(args: Any, kwargs: Any, text: str) -> None:
    spec = spec_of(buy)
    small, _ = CODEC.encode_arguments(args, kwargs)
    with pytest.raises(InvalidArgument) as slow:
        spec.arguments(CODEC, small, (), FakeLive())
    large, _ = CODEC.encode_arguments(args, {**kwargs, "more": PAD})
    with pytest.raises(InvalidArgument) as caught:
        spec.arguments(Once(), large, (), FakeLive())  # type: ignore[arg-type]
    assert str(caught.value) == str(slow.value) == text
    assert caught.value.may_have_executed is False


def test_what_is_wrong_with_large_arguments_as_a_whole() -> None:
    spec = spec_of(buy)
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        ([[], {}, PAD], {}, r"^calc.buy takes 1 to 2 arguments .*, got 3$"),
        ([[]], {"more": PAD}, r"^calc.buy: unknown argument 'more'"),
        ([], {"by_name": {PAD: {"name": "a", "price": 1}}}, r"^calc.buy: missing argument 'items'$"),
    ]
    for args, kwargs, text in cases:
        payload, _ = CODEC.encode_arguments(args, kwargs)
        with pytest.raises(InvalidArgument, match=text):
            spec.arguments(CODEC, payload, (), FakeLive())
