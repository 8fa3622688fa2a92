"""How much a class holds and does: what a reader has to keep in mind at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

#: Attributes and methods up to which a class needs no reason for its size.
MOST_ATTRIBUTES: Final = 20
MOST_METHODS: Final = 30

#: How the reason begins, in the comment directly above a class that has more.
REASON: Final = "# Large because "


def large_classes(source: str) -> Iterator[tuple[str, int, int, bool]]:
    """The classes of a module that are large: name, attributes, methods, and whether a reason stands above them.

    A ``Protocol`` holds nothing and does nothing, and so is none of them.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or _is_protocol(node):
            continue
        attributes, methods = len(_attributes(node)), len(_methods(node))
        if attributes > MOST_ATTRIBUTES or methods > MOST_METHODS:
            yield node.name, attributes, methods, _has_reason(node, lines)


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def _attributes(node: ast.ClassDef) -> set[str]:
    found = {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
    }
    return found | {
        statement.target.id
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _methods(node: ast.ClassDef) -> set[str]:
    return {
        statement.name
        for statement in node.body
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _has_reason(node: ast.ClassDef, lines: list[str]) -> bool:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    comment: list[str] = []
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
        comment.insert(0, lines[first].strip())
    return bool(comment) and re.match(rf"{REASON}\S+ \S+", comment[0]) is not None
