"""What ``duplex`` exports changes only on purpose: see "The public surface" in CONTRIBUTING.md."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import types
from typing import Any

import pytest

import duplex
from tests.meta.surface import COMMAND, misplaced, public_names, read_frozen, undocumented


def test_surface_is_the_frozen_one() -> None:
    now, frozen = set(public_names(duplex)), set(read_frozen())
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


def test_wrong_module_is_found() -> None:
    assert misplaced(invented()) == ["Heir is in invented._private"]
