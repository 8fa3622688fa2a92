"""Descriptions: complete, plain, and never in the way."""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from duplex import Callback, Channel, ReceiveChannel, SendChannel, Service
from duplex.codec import CODECS
from duplex.service import MethodDescription, ServiceDescription, describe_method, describe_service
from tests.service.helpers import spec_of


class Color(enum.Enum):
    RED = "red"


class Tree(msgspec.Struct):
    """A tree."""

    value: int
    children: list[Tree] = []


@dataclass
class Order:
    item: str
    colors: list[Color] = field(default_factory=list)


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError("nobody may look")


def describe(function: Callable[..., Any], **options: Any) -> MethodDescription:
    return describe_method(spec_of(function, **options))


def test_a_service() -> None:
    service = Service("calc", version="1.0.0", description="Calculates.")

    @service.rpc
    async def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    @service.rpc(idempotent=True, deprecated="use add")
    async def count(upto: int) -> AsyncIterator[int]:
        yield upto

    description = describe_service(service)
    assert (description.name, description.version, description.description) == (
        "calc",
        "1.0.0",
        "Calculates.",
    )
    first, second = description.methods
    assert (first.name, first.kind, first.signature) == ("add", "unary", "add(a: int, b: int = 2) -> int")
    assert (first.doc, first.idempotent, first.deprecated) == ("Add two numbers.", False, None)
    assert (second.name, second.kind) == ("count", "server_streaming")
    assert second.signature == "count(upto: int) -> AsyncIterator[int]"
    assert (second.idempotent, second.deprecated) == (True, "use add")
    assert (second.result.type, second.result.schema) == ("int", {"type": "integer"})
    assert second.input is None
    assert describe_service(service, "count").methods == [second]
    with pytest.raises(KeyError):
        describe_service(service, "minus")
    assert describe_service(Service("empty")).description == ""


def test_parameters() -> None:
    async def work(
        a: Annotated[int, msgspec.Meta(ge=0)],
        /,
        b: str = "x",
        *c: float,
        d: Color = Color.RED,
        e: Any,
        **f: list[int],
    ) -> None: ...

    parameters = describe(work).parameters
    assert [(p.name, p.kind, p.required, p.type) for p in parameters] == [
        ("a", "positional_only", True, "int"),
        ("b", "positional_or_keyword", False, "str"),
        ("c", "var_positional", False, "float"),
        ("d", "keyword_only", False, "Color"),
        ("e", "keyword_only", True, "Any"),
        ("f", "var_keyword", False, "list[int]"),
    ]
    assert [p.schema for p in parameters] == [
        {"type": "integer", "minimum": 0},
        {"type": "string"},
        {"type": "number"},
        {"$ref": "#/$defs/Color"},
        {},
        {"type": "array", "items": {"type": "integer"}},
    ]
    missing = msgspec.UNSET
    assert [p.default for p in parameters] == [missing, "x", missing, "red", missing, missing]
    assert not any(p.stream for p in parameters)


@pytest.mark.parametrize(
    ("default", "plain"),
    [
        (None, None),
        ((1, 2), [1, 2]),
        (Tree(1), {"value": 1, "children": []}),
        (dt.timedelta(seconds=1), "PT1S"),
        ({1: "a"}, {"1": "a"}),
        (print, "<built-in function print>"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_defaults_are_plain_data_or_text(default: Any, plain: Any) -> None:
    async def work(a: Any = default) -> None: ...

    description = describe(work)
    assert json.loads(msgspec.json.encode(description))["parameters"][0]["default"] == plain


def test_a_default_that_cannot_even_be_shown() -> None:
    async def work(a: Any = Opaque()) -> None: ...  # noqa: B008

    description = describe(work)
    assert description.parameters[0].default == "<Opaque>"
    assert description.signature == "work(a=<Opaque>) -> None"


def test_definitions_are_shared_within_a_method() -> None:
    async def plant(tree: Tree, orders: list[Order]) -> dict[str, Tree]: ...  # type: ignore[empty-body]

    description = describe(plant)
    assert set(description.defs) == {"Tree", "Order", "Color"}
    assert description.defs["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert description.defs["Tree"]["description"] == "A tree."
    assert description.parameters[0].schema == {"$ref": "#/$defs/Tree"}
    assert description.result.type == "dict[str, Tree]"
    document = msgspec.to_builtins(description)
    assert set(document["$defs"]) == {"Tree", "Order", "Color"}


async def total(numbers: ReceiveChannel[Order], scale: int) -> int: ...  # type: ignore[empty-body]
async def chat(channel: Channel[Order, str]) -> None: ...


async def shout(words: ReceiveChannel[str]) -> AsyncIterator[Order]:
    yield Order("")


@pytest.mark.parametrize(
    ("function", "kind", "signature", "word", "input_type", "result_type"),
    [
        (total, "client_streaming", "total(numbers: ReceiveChannel[Order], scale: int) -> int", "receive_channel", "Order", "int"),
        (shout, "bidirectional", "shout(words: ReceiveChannel[str]) -> AsyncIterator[Order]", "receive_channel", "str", "Order"),
        (chat, "bidirectional", "chat(channel: Channel[Order, str]) -> None", "channel", "str", "Order"),
    ],
)  # fmt: skip
def test_streams(
    function: Callable[..., Any], kind: str, signature: str, word: str, input_type: str, result_type: str
) -> None:
    description = describe(function)
    assert (description.kind, description.signature) == (kind, signature)
    stream = description.parameters[0]
    assert (stream.stream, stream.required, stream.schema["x-duplex"]) == (True, False, word)
    assert description.input is not None
    assert (description.input.type, description.result.type) == (input_type, result_type)
    schemas = [description.input.schema, description.result.schema]
    assert {"$ref": "#/$defs/Order"} in schemas


def test_streams_of_anything() -> None:
    async def count():  # type: ignore[no-untyped-def]
        yield 1

    description = describe(count)
    assert description.signature == "count() -> AsyncIterator[Any]"
    assert description.result.schema == {}

    async def nothing(): ...  # type: ignore[no-untyped-def]

    assert describe(nothing).signature == "nothing()"


def test_what_json_cannot_hold_is_described() -> None:
    async def work(
        visit: Callback[[int], None],
        out: SendChannel[int],
        maybe: Callback[[int], None] | None,
        array: np.ndarray[Any, Any],
        floats: list[npt.NDArray[np.float64]],
        scalars: tuple[np.float64, np.int8, np.bool_],
        anything: object,
    ) -> tuple[ReceiveChannel[int], int]:
        raise NotImplementedError

    description = describe(work)
    visit, out, maybe, array, floats, scalars, anything = (p.schema for p in description.parameters)
    assert visit["x-duplex"] == "callback"
    assert out["x-duplex"] == "send_channel"
    assert {visit["x-duplex"], None} == {part.get("x-duplex") for part in maybe["anyOf"]}
    assert (array["type"], array["x-duplex"]) == ("object", "ndarray")
    assert floats["items"] == array
    assert [part["type"] for part in scalars["prefixItems"]] == ["number", "integer", "boolean"]
    assert anything == {"description": "anything"}
    assert description.result.schema["prefixItems"][0]["x-duplex"] == "receive_channel"
    assert description.result.type == "tuple[ReceiveChannel[int], int]"


def test_types_without_a_schema_get_words() -> None:
    async def work(a: int) -> list[Iterable[int]]: ...  # type: ignore[empty-body]

    spec = spec_of(work)
    assert describe_method(spec).result.schema == {"type": "array", "items": {"description": "Iterable"}}
    object.__setattr__(spec, "output_type", Tree | Order)  # nothing that could be registered
    description = describe_method(spec)
    assert description.result.schema["description"].startswith(
        "Tree | Order, which JSON Schema cannot express: "
    )
    assert description.parameters[0].schema == {"type": "integer"}


def test_numpy_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> list[Iterable[int]]: ...  # type: ignore[empty-body]

    spec = spec_of(work)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert describe_method(spec).result.schema == {"type": "array", "items": {"description": "Iterable"}}


@pytest.mark.parametrize("name", ["msgpack", "json"])
def test_descriptions_travel(name: str) -> None:
    service = Service("calc")
    for function in (total, chat, shout):
        service.add(function)
    description = describe_service(service)
    codec = CODECS[name]
    payload, attachments = codec.encode(description)
    assert codec.decoder(ServiceDescription)(payload, attachments, None) == description
    plain = codec.decoder(Any)(payload, attachments, None)
    assert "$defs" in plain["methods"][0]
    assert "default" not in plain["methods"][0]["parameters"][0]
