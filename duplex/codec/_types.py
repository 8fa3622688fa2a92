"""What a type holds, found once, and conversion to it, compiled once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar, final, get_origin

import msgspec

from duplex._errors import ConfigurationError, DecodeError
from duplex.codec import _numpy
from duplex.codec._base import LiveValues
from duplex.codec._defaults import compile_fill
from duplex.codec._explain import BAD_BYTES, decode_error

T = TypeVar("T")

#: Nodes of types that are buffers.
BYTES_TYPES: Final = (
    msgspec.inspect.BytesType,
    msgspec.inspect.ByteArrayType,
    msgspec.inspect.MemoryViewType,
)
#: Nodes of types that would show the encoding itself.
_RAW: Final = (msgspec.inspect.RawType, msgspec.inspect.ExtType)

#: Nodes of types that are made from objects with named fields.
_OBJECTS: Final = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
)


@final
class PerType(dict[Any, T], Generic[T]):
    """Makes something for each type, once.

    Args:
        make: ``make(annotation)``.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, annotation: Any) -> T:
        # Two threads may come here at once; both get what the first one made.
        return self.setdefault(annotation, self._make(annotation))

    def of(self, annotation: Any) -> T:
        """Return what belongs to ``annotation``."""
        try:
            return self[annotation]
        except TypeError:
            return self._make(annotation)  # Annotated, with something that has no hash


@final
class TypeFacts(msgspec.Struct, frozen=True):
    """What of a type matters to a codec.

    Attributes:
        root: msgspec's description.
        custom: whether there are types in it that msgspec does not know: arrays, foreign ones, or others.
        arrays: whether there are arrays in it.
        foreign: the types in it that no codec makes values of. Callbacks and channels are among them.
        any: whether values of any type are welcome somewhere in it.
        bytes: whether buffers are wanted somewhere in it.
        view: whether they are wanted as ``memoryview`` somewhere in it.
        computed: the fields that must be there and that dataclasses in it set themselves.
    """

    root: msgspec.inspect.Type
    custom: bool
    arrays: bool
    foreign: tuple[Any, ...]
    any: bool
    bytes: bool
    view: bool
    computed: frozenset[str]


def inspect_type(annotation: Any) -> TypeFacts:
    """Find the facts of a type. Raises ``ConfigurationError`` if it cannot travel."""
    try:
        return facts_of(annotation)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"values of type {annotation!r} cannot travel: {error}") from None


def facts_of(annotation: Any) -> TypeFacts:
    """Like :func:`inspect_type`, but errors of msgspec come as they are: it evaluates annotations of classes, which may raise anything."""
    return _FACTS.of(annotation)


def _find_facts(annotation: Any) -> TypeFacts:
    root = msgspec.inspect.type_info(annotation)
    nodes: dict[int, Any] = {}
    _collect(root, nodes)
    kinds = {type(node) for node in nodes.values()}
    if not kinds.isdisjoint(_RAW):
        raise ConfigurationError(f"values of type {annotation!r} cannot travel: they depend on the encoding")
    classes = [
        get_origin(node.cls) or node.cls
        for node in nodes.values()
        if isinstance(node, msgspec.inspect.DataclassType)
    ]
    for cls in classes:
        _check_fields(annotation, cls)
    custom = {node.cls for node in nodes.values() if isinstance(node, msgspec.inspect.CustomType)}
    plain = {kind for kind in custom if kind is object or _numpy.is_scalar_type(kind)}
    arrays = {kind for kind in custom if _numpy.is_array_type(kind)}
    return TypeFacts(
        root=root,
        custom=bool(custom),
        arrays=bool(arrays),
        foreign=tuple(custom - plain - arrays),
        any=msgspec.inspect.AnyType in kinds or object in custom,
        bytes=not kinds.isdisjoint(BYTES_TYPES),
        view=msgspec.inspect.MemoryViewType in kinds,
        computed=frozenset(
            field.name
            for cls in classes
            for field in _fields(cls)
            if not field.init and not _has_default(field)
        ),
    )


#: A type is walked through once: the services that each peer has would cost it most of the time that it takes to open.
_FACTS: Final = PerType(_find_facts)


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _check_fields(annotation: Any, cls: Any) -> None:
    attributes = getattr(cls, "__attrs_attrs__", ())
    private = [field.name for field in attributes if field.name.startswith("_")]
    if private:
        raise ConfigurationError(
            f"values of type {annotation!r} cannot travel: private fields of attrs objects, here "
            f"{', '.join(private)}, are not sent; give them names without an underscore, or use a dataclass"
        )


def _collect(node: Any, nodes: dict[int, Any]) -> None:
    if isinstance(node, (tuple, list)):
        for part in node:
            _collect(part, nodes)
    elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in nodes:
        nodes[id(node)] = node  # types may hold themselves
        for name in node.__struct_fields__:
            _collect(getattr(node, name), nodes)


def foreign_types(annotation: Any) -> tuple[Any, ...]:
    """Return the classes within a type that no codec makes values of, without their parameters.

    A value of such a class can only come from :class:`LiveValues`, so registering a method refuses
    those that are neither callbacks nor channels. Raises ``ConfigurationError`` for a type that cannot
    travel whatever the codec.
    """
    return inspect_type(annotation).foreign


class Converter(Protocol):
    """Validates a value that was decoded without its type."""

    def __call__(self, value: Any, dec_hook: Callable[[Any, Any], Any] | None = None) -> Any:
        """Return ``value`` as the type. Raises ``DecodeError``.

        Args:
            value: what was decoded.
            dec_hook: msgspec's; only for types with foreign ones in them.
        """


def compile_converter(annotation: Any, facts: TypeFacts, *, base64: bool) -> Converter:
    """Compile ``msgspec.convert`` to a type.

    Args:
        annotation: the type.
        facts: from :func:`inspect_type`.
        base64: whether text stands for bytes, where they are wanted.
    """
    # msgspec analyses a type anew in each call, unless it is a Struct, where it keeps what it found: ten
    # times faster. So the value goes into a box, and the box is taken out of the path in messages.
    box: Any = msgspec.defstruct("Box", [("value", annotation)], array_like=True)
    run: Callable[..., Any] = msgspec.convert
    if facts.bytes and not base64:
        run = functools.partial(run, builtin_types=(bytes, bytearray, memoryview))
    if base64:  # JSON: the keys of objects are text, whatever the keys of the dict are
        run = functools.partial(run, str_keys=True)
    local_hook = adapt_local if facts.custom else None
    # msgspec takes an array for a mapping, since it can be indexed: one without any keys, if no field is
    # required. Deeper inside of a value that happens, too, but nobody has time to look for it.
    takes_mappings = isinstance(facts.root, _OBJECTS)
    fill = compile_fill(facts.root)

    def convert(value: Any, dec_hook: Callable[[Any, Any], Any] | None = local_hook) -> Any:
        if takes_mappings and type(value) is not dict and _numpy.is_array(value):
            raise DecodeError("Expected `object`, got `ndarray`")
        try:
            if dec_hook is None:  # named arguments cost more than the conversion of a number
                result = run((value,), box).value
            else:
                result = run((value,), box, dec_hook=dec_hook).value
            if fill is not None:
                fill(result)
            return result
        except BAD_BYTES as error:
            raise decode_error(error, box="$[0]", computed=facts.computed) from None
        except AttributeError as error:
            if not _numpy.is_array(error.obj):
                raise
            raise DecodeError("Expected `object`, got `ndarray`") from None  # asked for its keys

    return convert


def filled(decode: Callable[[bytes], Any], facts: TypeFacts) -> Callable[[bytes], Any]:
    """Return ``decode``, msgspec's for the type of ``facts``, with what it leaves out put in."""
    fill = compile_fill(facts.root)
    if fill is None:
        return decode

    def decode_whole(payload: bytes) -> Any:
        value = decode(payload)
        fill(value)
        return value

    return decode_whole


def adapt_local(annotation: Any, value: Any) -> Any:
    """Return ``value`` as a type that msgspec does not know but this package does: the ``dec_hook`` for types
    without foreign ones in them. Raises ``DecodeError``."""
    if annotation is object:
        return value
    if _numpy.is_array_type(annotation):
        return _numpy.adapt_array(value, annotation)
    return _numpy.adapt_scalar(value, annotation)


def adapt(live: LiveValues | None, annotation: Any, value: Any) -> Any:
    """Return ``value`` as any type that msgspec does not know. Raises ``DecodeError``."""
    if annotation is object or _numpy.is_array_type(annotation) or _numpy.is_scalar_type(annotation):
        return adapt_local(annotation, value)
    if live is None:
        name = getattr(annotation, "__name__", annotation)
        raise DecodeError(f"Expected `{name}`, which only a call can carry, got `{type(value).__name__}`")
    return live.adapt(value, annotation)
