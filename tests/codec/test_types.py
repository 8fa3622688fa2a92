"""Types that cannot travel, and decoders that are made once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, ForwardRef, Generic, Literal, Never, TypeVar

import attrs
import msgspec
import pytest

from duplex._errors import ConfigurationError
from duplex.codec import CODECS, foreign_types
from duplex.codec._types import PerType, inspect_type
from duplex.engine.channels._types import Callback
from tests.codec.helpers import CODEC, JSON, RAW

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Broken(msgspec.Struct):
    field: NotDefinedAnywhere  # type: ignore[name-defined] # noqa: F821


class Raising(msgspec.Struct):
    field: 1 / 0  # type: ignore[valid-type]


@pytest.mark.parametrize(
    "annotation",
    [
        *("int", 5, [int], Never, ClassVar[int], ForwardRef("int"), Broken, list[Broken], Raising),
        *(
            list[int] | set[int],
            int | str | bytes,
            msgspec.Raw,
            list[msgspec.msgpack.Ext],
            bytes | memoryview,
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", list(CODECS))
def test_types_that_cannot_travel(annotation: Any, name: str) -> None:
    codec = CODECS[name]
    with pytest.raises(ConfigurationError):
        codec.decoder(annotation)
    with pytest.raises(ConfigurationError):
        codec.convert(None, annotation)
    with pytest.raises(ConfigurationError, match=r"cannot travel: "):
        foreign_types(annotation)


@pytest.mark.parametrize(
    "annotation", [Callback[[int], None], list[Callback[..., Any] | None], complex, Page[Callback[..., Any]]]
)
def test_types_that_only_msgpack_carries(annotation: Any) -> None:
    CODEC.decoder(annotation)
    with pytest.raises(ConfigurationError, match=r"cannot travel in json.*: use msgpack$"):
        JSON.decoder(annotation)
    with pytest.raises(ConfigurationError, match=r"cannot travel in json"):
        JSON.convert(None, annotation)
    with pytest.raises(ConfigurationError, match=r"^the raw codec carries bytes, not "):
        RAW.decoder(annotation)


@pytest.mark.parametrize("name", list(CODECS))
def test_the_same_type_gives_the_same_decoder(name: str) -> None:
    codec = CODECS[name]
    assert codec.decoder(bytes) is codec.decoder(bytes)
    assert codec.decoder(bytes) is not codec.decoder(Any)
    if name != "raw":
        assert codec.decoder(list[int]) is codec.decoder(list[int])
        assert codec.decoder(Literal[1]) is not codec.decoder(Literal[True])


@attrs.define
class Private:
    size: int
    _secret: int = 0


class HoldsPrivate(msgspec.Struct):
    boxes: list[Private]


@pytest.mark.parametrize("annotation", [Private, list[Private], HoldsPrivate])
def test_private_fields_of_attrs_objects_would_be_lost(annotation: Any) -> None:
    for codec in (CODEC, JSON):
        with pytest.raises(
            ConfigurationError, match=r"private fields of attrs objects, here _secret, are not sent"
        ):
            codec.decoder(annotation)
    with pytest.raises(ConfigurationError, match="_secret"):
        foreign_types(annotation)


def test_annotations_without_a_hash() -> None:
    annotation = Annotated[dict[str, int], {"doc": "of no interest here"}]
    with pytest.raises(TypeError):
        hash(annotation)
    payload, _ = CODEC.encode({"a": 1})
    assert CODEC.decoder(annotation)(payload, (), None) == {"a": 1}
    assert CODEC.convert({"a": 1}, annotation) == {"a": 1}
    assert JSON.decoder(annotation)(b'{"a":1}', (), None) == {"a": 1}
    assert RAW.decoder(Annotated[bytes, []])(b"x", (), None) == b"x"


def test_generic_and_abstract_types() -> None:
    payload, _ = CODEC.encode({"items": [1]})
    assert CODEC.decoder(Page[int])(payload, (), None) == Page([1])
    assert CODEC.decoder(Mapping[str, Sequence[int]])(payload, (), None) == {"items": [1]}
    assert CODEC.decoder(T)(payload, (), None) == {"items": [1]}


def test_facts() -> None:
    facts = inspect_type(Page[memoryview])
    assert (facts.view, facts.bytes, facts.any, facts.custom) == (True, True, False, False)
    facts = inspect_type(dict[str, object])
    assert (facts.view, facts.bytes, facts.any, facts.custom, facts.foreign) == (False, False, True, True, ())


def test_two_threads_get_the_same() -> None:
    both = threading.Barrier(2)

    def make(annotation: Any) -> object:
        both.wait()
        return object()

    made: PerType[object] = PerType(make)
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(made.of(int))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] is results[1] is made.of(int)
