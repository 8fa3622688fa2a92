"""Defaults of dataclasses, made fields of the object.

For a field that did not come, msgspec leaves the class's attribute to answer, if the class has one: the object
looks whole, but is encoded from its ``__dict__``, where the field is missing. Passed on, it would be given
another default, or none. So each object is completed as soon as it is decoded. What there is to look at is found
once for a type: a type without such a class in it costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, get_origin

import msgspec

#: What completes values of a type, by the class of the value: a union has several, and a default may be anything.
#: Each completes one value in place, and adds what is within to what waits: values may be nested deeper than
#: Python's calls.
_Fills: TypeAlias = dict[type, "_Fill"]
_Waiting: TypeAlias = list[tuple[_Fills, Iterable[Any]]]
_Fill: TypeAlias = Callable[[Any, _Waiting], None]

_ARRAYS: Final[dict[type, type]] = {
    msgspec.inspect.ListType: list,
    msgspec.inspect.SetType: set,
    msgspec.inspect.FrozenSetType: frozenset,
    msgspec.inspect.VarTupleType: tuple,
}
_WITH_FIELDS: Final = (
    msgspec.inspect.DataclassType,
    msgspec.inspect.StructType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.NamedTupleType,
)


def compile_fill(root: msgspec.inspect.Type) -> Callable[[Any], None] | None:
    """Compile what puts the defaults into every dataclass within a value of a type.

    Args:
        root: msgspec's description of the type.

    Returns:
        A function for one decoded value; ``None`` if nothing can be missing.
    """
    compiler = _Compiler()
    fills = compiler.fills(root)

    def fill(value: Any) -> None:
        fill_value = fills.get(type(value))
        if fill_value is None:
            return
        waiting: _Waiting = []
        fill_value(value, waiting)
        for by_class, values in waiting:  # which grows
            for part in values:
                fill_part = by_class.get(type(part))
                if fill_part is not None:
                    fill_part(part, waiting)

    return fill if compiler.needed else None


class _Compiler:
    def __init__(self) -> None:
        self._known: dict[int, _Fills] = {}
        #: Whether there is a class that needs this at all.
        self.needed = False

    def fills(self, node: Any) -> _Fills:
        """Return what completes values of a node; empty if there is nothing to do."""
        kind = type(node)
        if kind is msgspec.inspect.Metadata:
            return self.fills(node.type)
        if kind is msgspec.inspect.UnionType:
            return {cls: fill for part in node.types for cls, fill in self.fills(part).items()}
        if kind in _ARRAYS:
            items = self.fills(node.item_type)
            return {_ARRAYS[kind]: lambda value, waiting: waiting.append((items, value))} if items else {}
        if kind is msgspec.inspect.DictType:
            return _in_dict(self.fills(node.key_type), self.fills(node.value_type))
        if kind is msgspec.inspect.TupleType:
            places: list[_Fills] = [self.fills(part) for part in node.item_types]
            return {tuple: _in_places(places)} if any(places) else {}
        if kind in _WITH_FIELDS:
            if id(node) not in self._known:
                self._with_fields(node)
            return self._known[id(node)]
        return {}

    def _with_fields(self, node: Any) -> None:
        cls = get_origin(node.cls) or node.cls
        defaults = _left_to_the_class(cls, node)
        self.needed = self.needed or bool(defaults)
        parts: list[tuple[str, _Fills]] = []
        places: list[_Fills] = []

        def fill_object(value: Any, waiting: _Waiting) -> None:
            if defaults:
                own = value.__dict__
                for name, default, made in defaults:
                    if name not in own:
                        own[name] = default() if made else default
            for name, fills in parts:
                waiting.append((fills, (getattr(value, name, None),)))

        def fill_dict(value: Any, waiting: _Waiting) -> None:
            for name, fills in parts:
                waiting.append((fills, (value.get(name),)))

        # Types may hold themselves, so this is known before it is complete.
        if type(node) is msgspec.inspect.TypedDictType:
            known: _Fills = {dict: fill_dict}
        elif type(node) is msgspec.inspect.NamedTupleType:
            known = {cls: _in_places(places)}
        else:
            known = {cls: fill_object}
        self._known[id(node)] = known
        places += [self.fills(field.type) for field in node.fields]
        parts += [(field.name, fills) for field, fills in zip(node.fields, places, strict=True) if fills]
        if not parts and not defaults:
            self._known[id(node)] = {}


def _left_to_the_class(cls: type, node: Any) -> list[tuple[str, Any, bool]]:
    """Return the fields that msgspec does not set where they are missing: name, default, and whether that is a
    function that makes it."""
    if type(node) is not msgspec.inspect.DataclassType:
        return []
    left: list[tuple[str, Any, bool]] = []
    for field in node.fields:
        attribute = inspect.getattr_static(cls, field.name, msgspec.NODEFAULT)
        # What stands for a slot answers nothing while that is empty, and msgspec sets it.
        if attribute is msgspec.NODEFAULT or hasattr(attribute, "__set__"):
            continue
        if field.default_factory is not msgspec.NODEFAULT:
            left.append((field.name, field.default_factory, True))
        elif field.default is not msgspec.NODEFAULT:
            left.append((field.name, field.default, False))
    return left


def _in_dict(keys: _Fills, values: _Fills) -> _Fills:
    def fill(value: Any, waiting: _Waiting) -> None:
        if keys:
            waiting.append((keys, value))
        if values:
            waiting.append((values, value.values()))

    return {dict: fill} if keys or values else {}


def _in_places(places: list[_Fills]) -> _Fill:
    def fill(value: Any, waiting: _Waiting) -> None:
        for fills, item in zip(places, value, strict=False):  # a default may be shorter
            if fills:
                waiting.append((fills, (item,)))

    return fill
