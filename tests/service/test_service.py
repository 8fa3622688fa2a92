"""Services: what they are called, what is in them, and how it gets there."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import duplex
from duplex import ConfigurationError, Kind, Service
from duplex.service import RpcOptions
from tests.service.helpers import call


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_a_new_service() -> None:
    service = Service("calc", version="1.2.3", description="Calculates.")
    assert (service.name, service.version, service.description) == ("calc", "1.2.3", "Calculates.")
    assert dict(service.methods) == {}
    assert repr(service) == "<Service calc 1.2.3: no methods>"
    plain = Service("calc")
    assert (plain.version, plain.description) == ("0.0.0", None)


def test_the_decorator_gives_the_function_back() -> None:
    service = Service("calc")

    def plain(a: int) -> int:
        return a

    assert service.rpc(plain) is plain
    assert service.rpc(name="other", idempotent=True, inline=True, deprecated="use plain")(plain) is plain
    assert list(service.methods) == ["plain", "other"]
    assert service.methods["plain"].function is plain
    other = service.methods["other"]
    assert (other.method, other.name) == ("calc.other", "other")
    assert (other.idempotent, other.inline, other.deprecated) == (True, True, "use plain")
    assert repr(service) == "<Service calc 0.0.0: plain, other>"


async def test_decorated_functions_can_be_called_as_ever() -> None:
    service = Service("calc")
    decorated = service.rpc(add)
    assert await decorated(1, 2) == 3
    assert await duplex.rpc(add)(1, 2) == 3
    del vars(add)["__duplex_rpc__"]


def test_methods_are_read_only() -> None:
    service = Service("calc")
    with pytest.raises(TypeError):
        service.methods["x"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["calc", "a.b.c", "with_underscore", "with-dash", "Caps9", "9", "größe", "duplexer", "a.duplex"]
)
def test_names_of_services(name: str) -> None:
    assert Service(name).name == name


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a\n", "calc:x", "*"])
def test_what_a_service_cannot_be_called(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a service cannot be called .*: use letters, digits"):
        Service(name)


@pytest.mark.parametrize("name", ["duplex", "duplex.health", "duplex.x.y"])
def test_reserved_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="'duplex' is reserved"):
        Service(name)
    assert Service(name, builtin=True).name == name


@pytest.mark.parametrize("name", ["add", "add-two", "2", "import", "größe", "_private"])
def test_names_of_methods(name: str) -> None:
    service = Service("calc")
    service.add(add, name=name)
    assert list(service.methods) == [name]


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a\n", "*"])
def test_what_a_method_cannot_be_called(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a method cannot be called .*: use letters, digits"):
        Service("calc").add(add, name=name)


def test_functions_without_a_public_name() -> None:
    service = Service("calc")

    async def _private() -> None: ...

    with pytest.raises(ConfigurationError, match="'_private' begins with an underscore, so it is private"):
        service.rpc(_private)
    for nameless in (lambda: None, functools.partial(add, 1)):
        with pytest.raises(ConfigurationError, match=r"has no name of its own; give it one with name=\.\.\."):
            service.add(nameless)


def test_names_have_a_longest() -> None:
    service = Service("s" * 200)
    service.add(add, name="m" * 54)
    with pytest.raises(ConfigurationError, match="longer than 255 bytes of UTF-8"):
        service.add(add, name="m" * 55)
    with pytest.raises(ConfigurationError, match="longer than 255 bytes of UTF-8"):
        service.add(add, name="ü" * 28)


def test_a_name_is_given_once() -> None:
    service = Service("calc")
    service.add(add)
    with pytest.raises(
        ConfigurationError, match=r"calc\.add exists already; give one of the two another name"
    ):
        service.add(add)

    @service.rpc
    async def waits(x: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"calc\.waits exists already"):
        service.add(add, name="waits")


def test_what_fails_leaves_nothing_behind() -> None:
    service = Service("calc")
    with pytest.raises(ConfigurationError):
        service.add(int, name="x")
    assert dict(service.methods) == {}


def test_early_refusals() -> None:
    service = Service("calc")
    with pytest.raises(ConfigurationError, match=r"calc\.add: inline=True is for a plain `def`"):
        service.rpc(inline=True)(add)
    with pytest.raises(ConfigurationError, match=r"add: inline=True is for a plain `def`"):
        duplex.rpc(inline=True)(add)
    with pytest.raises(ConfigurationError, match="its first parameter is 'self'"):

        class Store:
            @service.rpc
            async def get(self) -> None: ...


# -- duplex.rpc ----------------------------------------------------------------------------------------


def test_marking_a_function() -> None:
    def work(a: int) -> None: ...

    assert duplex.rpc(work) is work
    assert vars(work)["__duplex_rpc__"] == RpcOptions(hints={"a": int, "return": type(None)})
    duplex.rpc(name="labour", inline=True, idempotent=True, deprecated="rest")(work)
    options = vars(work)["__duplex_rpc__"]
    assert (options.name, options.inline, options.idempotent, options.deprecated) == (
        "labour",
        True,
        True,
        "rest",
    )


def test_adding_a_marked_function() -> None:
    def work(a: int) -> None: ...

    duplex.rpc(name="labour", inline=True, idempotent=True, deprecated="rest")(work)
    service = Service("calc")
    service.add(work)
    service.add(work, name="play", inline=False, idempotent=False, deprecated="")
    labour, play = service.methods["labour"], service.methods["play"]
    assert (labour.inline, labour.idempotent, labour.deprecated) == (True, True, "rest")
    assert (play.inline, play.idempotent, play.deprecated) == (False, False, "")


class Store:
    async def get(self) -> None: ...


def test_what_cannot_be_marked() -> None:
    with pytest.raises(ConfigurationError, match="a builtin_function_or_method cannot be marked"):
        duplex.rpc(len)
    with pytest.raises(ConfigurationError, match="a class is not a method"):
        duplex.rpc(int)
    with pytest.raises(ConfigurationError, match="a method cannot be marked"):
        duplex.rpc(Store().get)
    with pytest.raises(ConfigurationError, match="which is no value"):

        @duplex.rpc
        async def stream() -> AsyncIterator[int]: ...  # type: ignore[empty-body]


def test_names_at_the_place_of_adding_are_the_last_resort() -> None:
    names: dict[str, Any] = {}
    exec(
        "from __future__ import annotations\nclass Key: ...\nasync def get(key: Item, n: Number): ...", names
    )
    names["Item"] = str
    Item, Number = bytes, float
    service = Service("store")
    service.add(names["get"])
    assert [p.annotation for p in service.methods["get"].parameters] == [str, float]
    assert (Item, Number) == (bytes, float)


def test_bound_methods_and_partials() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def up(self, by: int = 1) -> int:
            """Count up."""
            self.count += by
            return self.count

    counter = Counter()
    service = Service("counter")
    service.add(counter.up, inline=True)
    service.add(functools.partial(counter.up, 10), name="up_ten", idempotent=True)
    up = service.methods["up"]
    assert (up.kind, up.doc, up.inline) == (Kind.UNARY, "Count up.", True)
    args, kwargs = call(up, 2)
    assert up.function(*args, **kwargs) == 2
    assert service.methods["up_ten"].function() == 12


def test_one_function_in_two_services() -> None:
    one, two = Service("one"), Service("two")

    @one.rpc
    @two.rpc
    async def shared() -> None: ...

    assert one.methods["shared"].method == "one.shared"
    assert two.methods["shared"].method == "two.shared"


def test_the_type_of_a_function_survives_decoration() -> None:
    service = Service("calc")

    @service.rpc
    def plain(a: int) -> str:
        return str(a)

    @service.rpc(idempotent=True)
    def optional(a: int) -> str:
        return str(a)

    text: Callable[[int], str] = plain
    other: Callable[[int], str] = optional
    assert text(1) == other(1) == "1"
