"""Which names annotations may use, and what is said of those that cannot be found."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Optional

import msgspec
import pytest
import trio

import duplex
from duplex import Callback, Channel, ConfigurationError, ReceiveChannel, SendChannel, Service
from duplex.service import MethodSpec
from duplex.service._annotations import (
    NO_SCOPE,
    UnresolvedNameError,
    bare,
    capture_scope,
    in_class_body,
    names_for,
    resolve,
    role_of,
    underlying,
)
from tests.service.helpers import call, spec_of

if TYPE_CHECKING:
    from fractions import Fraction


class Shape(msgspec.Struct):
    sides: int


def types_of(spec: MethodSpec) -> list[Any]:
    return [p.annotation for p in spec.parameters]


def test_names_of_the_module() -> None:
    async def draw(shape: Shape, others: list[Shape]) -> Shape: ...  # type: ignore[empty-body]

    spec = spec_of(draw)
    assert types_of(spec) == [Shape, list[Shape]]
    assert spec.output_type is Shape


def test_names_of_the_enclosing_function() -> None:
    class Local(msgspec.Struct):
        x: int

    service = Service("calc")

    @service.rpc
    async def one(value: Local) -> list[Local]: ...  # type: ignore[empty-body]

    @service.rpc(name="two")
    async def _(value: dict[str, Local]) -> None: ...

    assert types_of(service.methods["one"]) == [Local]
    assert service.methods["one"].output_type == list[Local]
    assert types_of(service.methods["two"]) == [dict[str, Local]]
    assert call(service.methods["one"], {"x": 1}) == ((Local(1),), {})


def test_names_that_the_function_closes_over() -> None:
    class Local(msgspec.Struct):
        x: int

    def make() -> Callable[..., Any]:
        async def one(value: Local) -> Local:
            return Local(value.x)

        return one

    assert types_of(spec_of(make())) == [Local]


def test_a_variable_without_a_value_yet_is_passed_over() -> None:
    async def one(value: int) -> Any:
        return later

    assert types_of(spec_of(one)) == [int]
    later = 1
    assert later == 1


def test_text_within_types() -> None:
    async def one(value: list["Shape"], other: Optional["Shape"]) -> None: ...  # noqa: UP037, UP045

    assert types_of(spec_of(one)) == [list[Shape], Shape | None]


def test_names_of_the_class() -> None:
    class Store:
        class Key(msgspec.Struct):
            name: str

        Alias = dict[str, int]

        @duplex.rpc
        async def get(self, key: Key, other: Alias) -> Store.Key: ...  # type: ignore[empty-body]

        @duplex.rpc
        async def twin(self, store: dict[str, Late]) -> Late: ...  # type: ignore[empty-body]

        class Late(msgspec.Struct):
            x: int

    methods = Service.from_object(Store()).methods
    assert types_of(methods["get"]) == [Store.Key, dict[str, int]]
    assert methods["get"].output_type is Store.Key
    assert methods["twin"].output_type is Store.Late


def test_methods_named_like_built_in_types_do_not_hide_them() -> None:
    service = Service("store")

    @service.rpc
    async def list() -> list[int]: ...  # type: ignore[valid-type]  # noqa: A001

    @service.rpc
    async def set(items: list[int]) -> set[int]: ...  # type: ignore[valid-type]  # noqa: A001

    @service.rpc
    async def get(items: list[int]) -> set[int]: ...  # type: ignore[valid-type]

    class Store:
        @duplex.rpc
        async def list(self) -> list[int]: ...  # type: ignore[valid-type]

        @duplex.rpc
        async def type(self, of: dict[str, int]) -> list[int]: ...  # type: ignore[valid-type]

    assert service.methods["set"].output_type.__name__ == "set"
    assert service.methods["get"].output_type.__name__ == "set"
    assert Service.from_object(Store()).methods["type"].output_type.__name__ == "list"


def test_what_is_defined_later_in_the_module_is_found_when_the_service_is_used() -> None:
    module = types.ModuleType("late")
    source = """
from __future__ import annotations
import duplex, msgspec
service = duplex.Service("late")
@service.rpc
async def one(value: Later) -> Later: ...
@duplex.rpc
async def two(value: Later) -> Later: ...
class Later(msgspec.Struct):
    x: int
"""
    exec(source, module.__dict__)
    assert repr(module.service) == "<Service late 0.0.0: one>"
    assert types_of(module.service.methods["one"]) == [module.Later]
    assert repr(module.service) == "<Service late 0.0.0: one>"
    assert types_of(Service.from_module(module).methods["two"]) == [module.Later]


def test_what_a_field_of_a_class_names_may_come_later_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("late")
    source = """
from __future__ import annotations
import duplex, msgspec
service = duplex.Service("late")
class Tree(msgspec.Struct):
    leaves: list[Leaf]
@service.rpc
async def one(value: Tree) -> None: ...
@service.rpc
async def two() -> Tree: ...
@duplex.rpc
async def three(value: Tree) -> None: ...
"""
    exec(source, module.__dict__)
    with pytest.raises(ConfigurationError, match="'Leaf' is not defined"):
        module.service.methods
    exec("class Leaf(msgspec.Struct): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "late", module)
    assert sorted(module.service.methods) == ["one", "two"]
    assert sorted(Service.from_module(module).methods) == ["three"]


def test_what_cannot_be_found_is_named() -> None:
    service = Service("calc")

    @service.rpc
    async def half(number: Fraction) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        service.methods
    assert str(caught.value) == (
        "calc.half: the parameter 'number': the annotation 'Fraction' cannot be resolved: name 'Fraction' is not "
        "defined. Define or import 'Fraction' where the function is defined: at the top level of its module and "
        "not under `if TYPE_CHECKING:`, or before it if it stands in another function"
    )


def test_an_attribute_that_does_not_exist_is_named() -> None:
    service = Service("calc")

    @service.rpc
    async def half() -> msgspec.Missing: ...  # type: ignore[name-defined]

    with pytest.raises(ConfigurationError, match=r"calc\.half: the result: .*Define or import 'Missing'"):
        service.methods


@pytest.mark.parametrize("annotation", ["1 +", "5", "[int]", "lambda: 1", "1 / 0"])
def test_what_is_no_type_is_refused(annotation: str) -> None:
    async def one(value): ...  # type: ignore[no-untyped-def]

    one.__annotations__["value"] = annotation
    with pytest.raises(ConfigurationError, match=r"^calc\.one: the parameter 'value'"):
        spec_of(one)


def test_scopes() -> None:
    local = 1
    scope = capture_scope(0)
    assert scope.function_names["local"] == local
    assert scope.class_names == {}
    assert not in_class_body(0)

    class Outer:
        a = 1

        class Inner:
            b = 2
            scope = capture_scope(0)
            inside = in_class_body(0)

    assert Outer.Inner.inside
    assert Outer.Inner.scope.function_names["local"] == local
    assert {"a", "b"} <= set(Outer.Inner.scope.class_names)


def test_modules_have_no_scope_of_their_own() -> None:
    names: dict[str, Any] = {"capture_scope": capture_scope}
    exec("scope = capture_scope(0)\nclass A:\n    x = 1\n    scope = capture_scope(0)", names)
    assert names["scope"] is NO_SCOPE
    assert names["A"].scope.class_names["x"] == 1
    assert names["A"].scope.function_names == {}


def test_type_parameters_are_names() -> None:
    async def one(value: int) -> None: ...

    marker = types.SimpleNamespace(__name__="T")
    attribute = "__type_params__"  # which Python 3.11 does not set
    setattr(one, attribute, (marker,))
    assert names_for(one)["T"] is marker


def test_underlying() -> None:
    def plain() -> None: ...

    @functools.wraps(plain)
    def wrapper() -> None: ...

    class Holder:
        method = wrapper

    assert underlying(functools.partial(Holder().method)) is plain
    assert underlying(len) is len


def test_resolving() -> None:
    assert resolve("x", None, {}) is types.NoneType
    assert resolve("x", "None", {}) is types.NoneType
    assert resolve("x", "A", {"A": int}) is int
    with pytest.raises(UnresolvedNameError):
        resolve("x", "A", {})


@pytest.mark.parametrize(
    ("annotation", "role"),
    [
        (ReceiveChannel[int], "receive"),
        (ReceiveChannel, "receive"),
        (trio.abc.ReceiveChannel[int], "receive"),
        (trio.MemoryReceiveChannel[int], "receive"),
        (Annotated[ReceiveChannel[int], "x"], "receive"),
        (SendChannel[int], "send"),
        (trio.abc.SendChannel[int], "send"),
        (Channel[int, str], "channel"),
        (trio.abc.Channel[int], "channel"),
        (Callback[[int], str], "callback"),
        (Callback, "callback"),
        (ReceiveChannel[int] | None, None),
        (list[ReceiveChannel[int]], None),
        (int, None),
        (Any, None),
        ("ReceiveChannel", None),
    ],
)
def test_roles(annotation: Any, role: str | None) -> None:
    assert role_of(annotation) == role


class TypeAliasType:
    """Like that of Python 3.12."""

    __value__ = Annotated[ReceiveChannel[int], "x"]


def test_bare() -> None:
    assert bare(Annotated[int, 1]) is int
    assert bare(int) is int
    assert bare(TypeAliasType()) == ReceiveChannel[int]
    assert role_of(TypeAliasType()) == "receive"
