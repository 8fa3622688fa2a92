"""Services made of objects and of modules: what is collected, and what must not be."""

from __future__ import annotations

import types
from typing import Any

import pytest

import duplex
from duplex import ConfigurationError, Service, services_of
from tests.service.helpers import call, refusal


class Inventory:
    """Keeps things.

    Many of them.
    """

    def __init__(self) -> None:
        self.things: dict[str, int] = {}

    @duplex.rpc
    async def put(self, name: str, count: int = 1) -> int:
        """Put something in."""
        self.things[name] = self.things.get(name, 0) + count
        return self.things[name]

    @duplex.rpc(name="take", inline=True)
    def take_out(self, name: str) -> int:
        return self.things.pop(name)

    @duplex.rpc
    @staticmethod
    async def outer_static(a: int) -> int:
        return a

    @staticmethod
    @duplex.rpc
    async def inner_static(a: int) -> int:
        return a

    @duplex.rpc
    @classmethod
    async def outer_class(cls, a: int) -> str:
        return cls.__name__

    @classmethod
    @duplex.rpc
    async def inner_class(cls, a: int) -> str:
        return cls.__name__

    async def secret(self) -> None: ...

    @property
    def explosive(self) -> int:
        raise AssertionError("nobody asked for this")


async def test_methods_of_an_object() -> None:
    inventory = Inventory()
    service = Service.from_object(inventory)
    assert service.name == "inventory"
    assert service.description == "Keeps things.\n\nMany of them."
    assert list(service.methods) == [
        "put", "take", "outer_static", "inner_static", "outer_class", "inner_class"
    ]  # fmt: skip
    put = service.methods["put"]
    args, kwargs = call(put, "nut", 3)
    assert await put.function(*args, **kwargs) == 3
    assert inventory.things == {"nut": 3}
    assert service.methods["take"].function("nut") == 3
    assert service.methods["take"].inline
    assert refusal(put, 1) == "inventory.put: argument 'name': expected `str`, got `int`"
    for name in ("outer_static", "inner_static"):
        assert await service.methods[name].function(5) == 5
    for name in ("outer_class", "inner_class"):
        assert await service.methods[name].function(5) == "Inventory"


async def test_methods_can_be_called_as_ever() -> None:
    assert await Inventory().put("nut") == 1
    # To a type checker, what a class itself has is called over a link.
    local: Any = Inventory
    assert await local.outer_static(1) == 1


def test_what_the_service_is_called() -> None:
    class UserStoreService:
        @duplex.rpc
        async def get(self) -> None: ...

    class Named(UserStoreService):
        service_name = "people"

    class Protocol(UserStoreService):
        pass

    assert Service.from_object(UserStoreService()).name == "user_store"
    assert Service.from_object(UserStoreService()).description is None
    assert Service.from_object(Named()).name == "people"
    assert Service.from_object(Protocol()).name == "protocol"
    service = Service.from_object(Named(), name="x", version="2", description="y")
    assert (service.name, service.version, service.description) == ("x", "2", "y")


async def test_inherited_methods() -> None:
    class Special(Inventory):
        @duplex.rpc
        async def put(self, name: str, count: int = 1) -> int:
            return -1

        @duplex.rpc
        async def extra(self) -> None: ...

    service = Service.from_object(Special())
    assert list(service.methods)[:2] == ["put", "take"]
    assert "extra" in service.methods
    assert await service.methods["put"].function("x") == -1
    assert await service.methods["outer_class"].function(1) == "Special"


def test_overriding_without_decorating_is_refused() -> None:
    class Silent(Inventory):
        async def put(self, name: str, count: int = 1) -> int:
            return -1

    with pytest.raises(
        ConfigurationError, match=r"Silent\.put overrides the decorated Inventory\.put; decorate it"
    ):
        Service.from_object(Silent())


def test_a_method_can_be_taken_away() -> None:
    class Less(Inventory):
        put = None  # type: ignore[assignment]

    assert "put" not in Service.from_object(Less()).methods


def test_two_methods_of_one_name() -> None:
    class Twice:
        @duplex.rpc(name="get")
        async def one(self) -> None: ...

        @duplex.rpc(name="get")
        async def two(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"twice\.get exists already"):
        Service.from_object(Twice())


def test_classes_and_undecorated_objects_are_no_services() -> None:
    with pytest.raises(ConfigurationError, match=r"Inventory is a class; expose an instance of it"):
        Service.from_object(Inventory)
    with pytest.raises(
        ConfigurationError, match=r"object has no methods that are decorated with @duplex\.rpc"
    ):
        Service.from_object(object())


def test_two_instances_are_two_services() -> None:
    one, two = Inventory(), Inventory()
    assert Service.from_object(one).methods["take"].function.__self__ is one  # type: ignore[attr-defined]
    assert Service.from_object(two).methods["take"].function.__self__ is two  # type: ignore[attr-defined]


# -- modules -------------------------------------------------------------------------------------------


def module_of(source: str, name: str = "calc", **names: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(names)
    exec("from __future__ import annotations\nimport duplex\n" + source, module.__dict__)
    return module


FUNCTIONS = '''
"""Calculates."""
@duplex.rpc
async def add(a: int, b: int) -> int: ...
@duplex.rpc(name="neg")
async def negate(a: int) -> int: ...
plus = add
async def hidden(): ...
class Other:
    @duplex.rpc
    async def method(self): ...
'''


def test_functions_of_a_module() -> None:
    service = Service.from_module(module_of(FUNCTIONS, __version__="2.0"))
    assert (service.name, service.version, service.description) == ("calc", "2.0", None)
    assert list(service.methods) == ["add", "neg"]
    assert service.methods["add"].method == "calc.add"


def test_what_the_service_of_a_module_is_called() -> None:
    module = module_of(FUNCTIONS, "package.maths", __doc__="Calculates.\n\n    Much.\n    ")
    service = Service.from_module(module)
    assert (service.name, service.version, service.description) == ("maths", "0.0.0", "Calculates.\n\nMuch.")
    service = Service.from_module(module, name="x", version="3", description="y")
    assert (service.name, service.version, service.description) == ("x", "3", "y")


def test_a_script_is_called_after_its_file() -> None:
    module = module_of(FUNCTIONS, "__main__", __file__="/somewhere/calculator.py")
    assert Service.from_module(module).name == "calculator"
    assert Service.from_module(module_of(FUNCTIONS, "__main__")).name == "__main__"


def test_imported_functions_count() -> None:
    first = module_of(FUNCTIONS)
    second = module_of(
        "@duplex.rpc\nasync def own(): ...", "second", imported=first.add, Mistaken=first.Other
    )
    assert list(Service.from_module(second).methods) == ["add", "own"]


def test_modules_without_functions_are_no_services() -> None:
    with pytest.raises(
        ConfigurationError, match=r"empty has no functions that are decorated with @duplex\.rpc"
    ):
        Service.from_module(module_of("", "empty"))


def test_what_a_module_serves() -> None:
    module = module_of(
        FUNCTIONS + "one = duplex.Service('one')\nalias = one\ntwo = duplex.Service('two')\n"
        "@one.rpc\nasync def only_one(): ..."
    )
    assert [service.name for service in services_of(module)] == ["one", "two", "calc"]
    assert services_of(module)[0] is module.one
    assert list(services_of(module)[2].methods) == ["add", "neg"]
    assert services_of(module_of("")) == []


def test_services_of_one_name() -> None:
    with pytest.raises(ConfigurationError, match="calc has two services that are called 'calc'"):
        services_of(module_of(FUNCTIONS + "service = duplex.Service('calc')"))
