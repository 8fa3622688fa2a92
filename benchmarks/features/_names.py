"""Looks for names in the source of a module: for what a library would have to call somehow, if it had it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path


def names_with(module: str, words: Sequence[str]) -> list[str]:
    """Return the names in the Python source of a module, or package, that contain one of the words, in lower case.

    Raises ``ModuleNotFoundError`` if there is no such module.
    """
    found: set[str] = set()
    for path in _sources(module):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found.update(name for name in _names(node) if any(word in name.lower() for word in words))
    return sorted(found)


def _sources(module: str) -> list[Path]:
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    if spec.submodule_search_locations is None:
        return [Path(spec.origin or "")]
    return sorted(path for place in spec.submodule_search_locations for path in Path(place).rglob("*.py"))


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.keyword(arg=str(name)):
            yield name
        case _:
            pass
