"""What ``duplex`` exports changes only on purpose: see "The public surface" in CONTRIBUTING.md."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import pydoc
import types
from typing import Any

import pytest

import duplex
from tests.meta.surface import (
    COMMAND,
    misplaced,
    public_names,
    read_frozen,
    surface,
    undocumented,
    undocumented_members,
)


def test_surface_is_the_frozen_one() -> None:
    now, frozen = set(surface(duplex)), set(read_frozen())
    assert now == frozen, (
        f"new: {sorted(now - frozen)}; gone: {sorted(frozen - now)}. If that is meant, run {COMMAND} "
        "and say it in CHANGELOG.md"
    )


def test_something_is_public() -> None:
    assert public_names(duplex)


def test_every_public_name_exists() -> None:
    assert [name for name in public_names(duplex) if not hasattr(duplex, name)] == []


def test_no_name_is_exported_twice() -> None:
    names = public_names(duplex)
    assert len(names) == len(set(names))


def test_every_public_name_is_documented() -> None:
    assert undocumented(duplex) == []


def test_every_public_member_is_documented() -> None:
    assert undocumented_members(duplex) == []


async def test_what_programs_hold_shows_nothing_of_the_engine() -> None:
    listed = {line.removeprefix("async ").split("(")[0].split(":")[0] for line in read_frozen()}
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        for held in (client, await client.connect(await server.bind("memory://*"))):
            name = type(held).__name__
            shown = {f"{name}.{member}" for member in dir(held) if not member.startswith("_")}
            assert shown == {line for line in listed if line.startswith(f"{name}.")}


def test_every_public_name_says_it_lives_in_duplex() -> None:
    assert misplaced(duplex) == []


def test_help_of_the_package() -> None:
    assert "open_peer" in pydoc.render_doc(duplex)


@pytest.mark.parametrize("name", public_names(duplex))
def test_help_of_every_public_name(name: str) -> None:
    value = getattr(duplex, name)
    assert pydoc.render_doc(value)
    if inspect.isclass(value):
        inspect.get_annotations(value, eval_str=True)


@pytest.mark.parametrize(
    ("cls", "advice"), [(duplex.Peer, r"duplex\.open_peer\("), (duplex.Link, r"await peer\.connect\(")]
)
def test_what_functions_make_says_which(cls: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        cls()


# ------------------------------------------------------------------------- the checks can fail


def invented() -> types.ModuleType:
    """A module with one good name and one of each kind of bad one."""

    @dataclasses.dataclass
    class Bare:
        x: int

    class Documented:
        """It says what it is."""

    class Heir(Documented):
        pass

    def silent() -> None:
        raise NotImplementedError

    module = types.ModuleType("invented")
    for value in (Bare, Documented, Heir, silent):
        value.__module__ = "invented"
        setattr(module, value.__name__, value)
    Heir.__module__ = "invented._private"
    vars(module).update(_hidden=1, dataclasses=dataclasses, LIMIT=3, annotations=annotations)
    return module


def test_names_without_all() -> None:
    assert public_names(invented()) == ["Bare", "Documented", "Heir", "LIMIT", "silent"]


def test_names_with_all() -> None:
    module = invented()
    vars(module)["__all__"] = ("silent", "Bare")
    assert public_names(module) == ["Bare", "silent"]


def test_missing_docstrings_are_found() -> None:
    assert undocumented(invented()) == ["Bare", "Heir", "silent"]


def test_members_are_read() -> None:
    class Base:
        def kept(self) -> None: ...

    class Sample(Base):
        size: int

        def __init__(self, size: int, *, name: str = "x", sentinel: object = object()) -> None:
            self.size = size

        async def fetch(self, key: str, /) -> bytes:
            raise NotImplementedError

        @property
        def state(self) -> str | None:
            return None

        @classmethod
        def made(cls) -> Sample:
            raise NotImplementedError

        def _hidden(self) -> None: ...

    class Colour(enum.Enum):
        RED = 1

    module = types.ModuleType("invented")
    vars(module).update({"Base": Base, "Sample": Sample, "Colour": Colour, "LIMIT": 3, "make": lambda a: a})
    assert surface(module) == [
        "class Base()",
        "Base.kept(self) -> None",
        "class Colour",
        "Colour.RED = 1",
        "LIMIT",
        "class Sample(size: int, *, name: str = 'x', sentinel: object = ...) -> None is a Base",
        "async Sample.fetch(self, key: str, /) -> bytes",
        "classmethod Sample.made(cls) -> Sample",
        "Sample.size: int",
        "Sample.state: str | None",
        "make(a)",
    ]
    assert undocumented_members(module) == [
        "Base.kept",
        "Sample.fetch",
        "Sample.state",
        "Sample.made",
        "Sample.kept",
    ]


def test_wrong_module_is_found() -> None:
    assert misplaced(invented()) == ["Heir is in invented._private"]
