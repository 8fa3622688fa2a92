"""What a type holds, found once, and conversion to it, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import msgspec

from duplex._errors import ConfigurationError, DecodeError
from duplex.codec import _numpy
from duplex.codec._explain import decode_error


@final
class TypeFacts(msgspec.Struct, frozen=True):
    """What of a type matters to a codec.

    Attributes:
        custom: the types in it that msgspec does not know: numpy's, and those of live values.
        any: whether values of any type are welcome somewhere in it.
        view: whether a ``memoryview`` is wanted somewhere in it.
    """

    custom: tuple[Any, ...]
    any: bool
    view: bool


def inspect_type(annotation: Any) -> TypeFacts:
    """Find the facts of a type. Raises ``ConfigurationError`` if it cannot travel."""
    if isinstance(annotation, str):
        raise ConfigurationError(f"the type {annotation!r} is only a name: resolve it first")
    try:
        root = msgspec.inspect.type_info(annotation)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(f"values of type {annotation!r} cannot travel: {error}") from None
    seen: dict[int, Any] = {}
    custom: list[Any] = []
    _collect(root, seen, custom)
    kinds = {type(node) for node in seen.values()}
    return TypeFacts(tuple(custom), msgspec.inspect.AnyType in kinds, msgspec.inspect.MemoryViewType in kinds)


def _collect(node: Any, seen: dict[int, Any], custom: list[Any]) -> None:
    if isinstance(node, (tuple, list)):
        for part in node:
            _collect(part, seen, custom)
    elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
        seen[id(node)] = node  # types refer to themselves
        if isinstance(node, msgspec.inspect.CustomType):
            custom.append(node.cls)
        for name in node.__struct_fields__:
            _collect(getattr(node, name), seen, custom)


def foreign_types(annotation: Any) -> tuple[Any, ...]:
    """Return the types within ``annotation`` that no codec makes values of: live ones make the rest.

    Whoever registers a method refuses those that are neither callbacks nor channels.
    """
    return tuple(kind for kind in inspect_type(annotation).custom if not _numpy.is_numpy_type(kind))


#: ``convert(value, dec_hook) -> value``
Converter = Callable[[Any, Callable[[Any, Any], Any]], Any]


def compile_converter(annotation: Any) -> Converter:
    """Compile ``msgspec.convert`` for a type. ``inspect_type`` has seen that it can be done."""
    # msgspec analyses a type anew in each call, but for a Struct, where it keeps what it found: ten times
    # faster. So the value goes into a box, and the box is taken out of the path in messages.
    box = msgspec.defstruct("Box", [("value", annotation)], array_like=True)

    def convert(value: Any, dec_hook: Callable[[Any, Any], Any]) -> Any:
        try:
            return msgspec.convert((value,), box, dec_hook=dec_hook).value
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise decode_error(error, box="$[0]") from None

    return convert


def refuse_custom(annotation: Any, value: Any) -> Any:
    """The ``dec_hook`` of codecs that know only plain values."""
    if _numpy.is_numpy_type(annotation):
        return _numpy.adapt(value, annotation)
    raise DecodeError(f"a {getattr(annotation, '__name__', annotation)} cannot travel here: use the msgpack codec")
