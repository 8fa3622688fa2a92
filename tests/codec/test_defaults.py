"""Fields that did not come: what receives the default passes it on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pytest

from duplex.codec import Codec
from duplex.codec._defaults import compile_fill
from tests.codec.helpers import CODEC, JSON

T = TypeVar("T")

both = pytest.mark.parametrize("codec", [CODEC, JSON], ids=lambda codec: codec.name)


@dataclass
class Order:
    item: str
    count: int = 1
    currency: str = "EUR"
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    item: str
    count: int = 1


@dataclass(slots=True)
class Slots:
    item: str
    count: int = 1


@dataclass
class SlotsAndMore(Slots):
    colour: str = "red"


@dataclass(slots=True)
class MoreWithSlots(Order):
    colour: str = "red"


@dataclass
class Child(Order):
    price: float = 0.5


@dataclass(kw_only=True)
class ByName:
    count: int = 1
    item: str


@dataclass
class Computed:
    item: str
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.length = len(self.item)


@dataclass
class Plainly:
    """Its attribute is no default: what makes the value is."""

    item: str
    tags: Any = "none"


@dataclass
class MadeAnew(Plainly):
    tags: Any = field(default_factory=list)


@dataclass
class Holder(Generic[T]):
    item: str
    value: T | None = None


@attrs.define
class Attrs:
    item: str
    count: int = 1


@attrs.define(slots=False)
class AttrsWithoutSlots(Attrs):
    colour: str = "red"


class Struct(msgspec.Struct):
    item: str
    count: int = 1


CLASSES = [
    *(Order, Frozen, Slots, SlotsAndMore, MoreWithSlots, Child, ByName, Computed, MadeAnew),
    *(Holder[int], Attrs, AttrsWithoutSlots, Struct),
]


@both
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: getattr(cls, "__name__", "generic"))
def test_an_object_that_came_without_a_field_is_passed_on_with_it(codec: Codec, cls: Any) -> None:
    made = cls(item="tea")
    short = codec.encode({"item": "tea"})[0]
    whole = codec.encode(made)
    for received in (codec.decoder(cls)(short, (), None), codec.convert({"item": "tea"}, cls)):
        assert received == made
        assert codec.encode(received) == whole
        assert codec.decoder(Any)(*codec.encode(received), None) == codec.decoder(Any)(*whole, None)


class Pair(NamedTuple):
    first: Order
    second: Order | None = None


class Options(TypedDict):
    order: NotRequired[Order]
    others: NotRequired[list[Order]]


class Tree(msgspec.Struct):
    order: Order | None = None
    children: list[Tree] = []
    by_name: dict[str, Tree] = {}


@dataclass
class Branch:
    value: int = 0
    left: Branch | None = None
    pair: tuple[Branch, Branch] = ()  # type: ignore[assignment]


SHORT = {"item": "tea"}
WHOLE = {"item": "tea", "count": 1, "currency": "EUR", "tags": []}


@both
@pytest.mark.parametrize(
    ("annotation", "short", "whole"),
    [
        (list[Order], [SHORT, SHORT], [WHOLE, WHOLE]),
        (Annotated[list[Order], msgspec.Meta(max_length=3)], [SHORT], [WHOLE]),
        (Annotated[Order, msgspec.Meta(title="an order", extra={"of": "tea"})], SHORT, WHOLE),
        (tuple[Order, ...], [SHORT], [WHOLE]),
        (tuple[int, Order], [1, SHORT], [1, WHOLE]),
        (dict[str, list[Order]], {"a": [SHORT]}, {"a": [WHOLE]}),
        (set[Frozen], [SHORT], [{"item": "tea", "count": 1}]),
        (frozenset[Frozen], [SHORT], [{"item": "tea", "count": 1}]),
        (Order | int | None, SHORT, WHOLE),
        (Order | int | None, 5, 5),
        (list[int] | Order, [1], [1]),
        (Pair, [SHORT], [WHOLE, None]),
        (Pair, [SHORT, SHORT], [WHOLE, WHOLE]),
        (Options, {"order": SHORT}, {"order": WHOLE}),
        (Options, {"others": [SHORT]}, {"others": [WHOLE]}),
        (
            Tree,
            {"children": [{"order": SHORT}], "by_name": {"a": {"order": SHORT}}},
            {
                "order": None,
                "children": [{"order": WHOLE, "children": [], "by_name": {}}],
                "by_name": {"a": {"order": WHOLE, "children": [], "by_name": {}}},
            },
        ),
        (Holder[Order], {"item": "x", "value": SHORT}, {"item": "x", "value": WHOLE}),
        (Any, SHORT, SHORT),
        (list[Struct], [SHORT], [{"item": "tea", "count": 1}]),
    ],
    ids=str,
)
def test_wherever_it_is(codec: Codec, annotation: Any, short: Any, whole: Any) -> None:
    for received in (codec.decoder(annotation)(*codec.encode(short), None), codec.convert(short, annotation)):
        assert codec.decoder(Any)(*codec.encode(received), None) == whole


def test_keys_of_maps() -> None:
    for annotation in (dict[Frozen, int], dict[Frozen, Frozen]):
        short = b"\x81\x81\xa4item\xa3tea" + (
            b"\x01" if annotation == dict[Frozen, int] else b"\x81\xa4item\xa1x"
        )
        received = CODEC.decoder(annotation)(short, (), None)
        whole = {Frozen("tea"): 1 if annotation == dict[Frozen, int] else Frozen("x")}
        assert received == whole
        assert CODEC.encode(received) == CODEC.encode(whole)


@dataclass
class Unset:
    item: str
    note: str | msgspec.UnsetType = msgspec.UNSET


@both
def test_what_is_unset_stays_so(codec: Codec) -> None:
    received = codec.decoder(Unset)(*codec.encode(Unset("tea")), None)
    assert received == Unset("tea")
    assert codec.decoder(Any)(*codec.encode(received), None) == {"item": "tea"}


def test_types_that_hold_themselves() -> None:
    received = CODEC.decoder(Branch)(*CODEC.encode({"left": {"pair": [{}, {"value": 3}]}}), None)
    leaf = {"value": 0, "left": None, "pair": ()}
    assert asdict(received) == {**leaf, "left": {**leaf, "pair": ({**leaf}, {**leaf, "value": 3})}}
    assert received.left.__dict__.keys() == {"value", "left", "pair"}


def test_nested_deeper_than_the_calls_of_python() -> None:
    value: dict[str, Any] = {}
    for _ in range(900):
        value = {"left": value}
    received = CODEC.decoder(Branch)(*CODEC.encode(value), None)
    while received.left is not None:
        assert received.__dict__.keys() == {"value", "left", "pair"}
        received = received.left
    assert received.__dict__.keys() == {"value", "left", "pair"}


@pytest.mark.parametrize("annotation", [int, list[Struct], Slots, Attrs, MoreWithSlots], ids=str)
def test_types_without_such_a_class_cost_nothing(annotation: Any) -> None:
    assert compile_fill(msgspec.inspect.type_info(annotation)) is None
