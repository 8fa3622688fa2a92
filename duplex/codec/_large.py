"""Finding large buffers inside a value, so that they travel beside the payload and not in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from duplex.codec._extensions import LARGE

_BYTES_LIKE: Final = frozenset({bytes, bytearray, memoryview})
#: What most elements are, and what need not be looked into.
_ATOMS: Final = frozenset({int, str, float, bool, type(None)})

#: Bytes of a msgpack header of LARGE bytes or more (bin 32), and the part of it that is searched for: the
#: type and the highest byte of the length, zero in every payload under 16 MiB.
_HEADER: Final = 5
_BIN32: Final = b"\xc6"


def is_large(value: Any) -> bool:
    """Whether ``value`` is a buffer that travels as an attachment."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return len(value) >= LARGE
    return kind is memoryview and value.nbytes >= LARGE


def may_hold_large(payload: bytes) -> bool:
    """Tell from the encoded value whether it may hold a large buffer: if not, there is none.

    A search for the header that such a buffer must have. It is some hundred times faster than a walk over
    the value, and random data looks like a header once in millions of bytes.
    """
    room = len(payload) - _HEADER
    pattern = _BIN32 if len(payload) >= 1 << 24 else _BIN32 + b"\x00"
    at = payload.find(pattern)
    while 0 <= at:
        if LARGE <= int.from_bytes(payload[at + 1 : at + _HEADER]) <= room - at:
            return True
        at = payload.find(pattern, at + 1)
    return False


def replace_large(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every large buffer in it replaced by ``replace(buffer)``.

    What holds none is returned as it is, what holds one as a new container that is encoded alike. Strided
    views are replaced too, whatever their size, since msgspec does not take them.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind in _BYTES_LIKE:
        if is_large(value) or (kind is memoryview and not value.c_contiguous):
            return replace(value)
        return value
    if isinstance(value, dict):
        return _replace_in_dict(value, replace)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _replace_in_sequence(value, replace)
    names = _field_names(value)
    return _replace_in_fields(value, names, replace) if names else value


def _replace_in_dict(value: dict[Any, Any], replace: Callable[[Any], Any]) -> Any:
    result: dict[Any, Any] | None = None
    for key, item in value.items():
        new = replace_large(item, replace)
        if new is not item:
            if result is None:
                result = dict(value)
            result[key] = new
    return value if result is None else result


def _replace_in_sequence(value: Any, replace: Callable[[Any], Any]) -> Any:
    result: list[Any] | None = None
    for index, item in enumerate(value):
        if type(item) in _ATOMS:
            continue
        new = replace_large(item, replace)
        if new is not item:
            if result is None:
                result = list(value)  # sets too: the replacements need not be hashable
            result[index] = new
    return value if result is None else result


def _field_names(value: Any) -> tuple[str, ...]:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return kind.__struct_fields__
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return tuple(fields)
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))


def _replace_in_fields(value: Any, names: tuple[str, ...], replace: Callable[[Any], Any]) -> Any:
    result: Any = None
    for name in names:
        item = getattr(value, name, None)
        new = replace_large(item, replace)
        if new is not item:
            if result is None:
                result = _clone(value, names)
            _set(result, name, new)
    return value if result is None else result


def _clone(value: Any, names: tuple[str, ...]) -> Any:
    # Neither __init__ nor __post_init__ nor a __copy__ of the user's runs: they may refuse, or do things.
    if isinstance(value, msgspec.Struct):
        return msgspec.Struct.__copy__(value)
    clone = object.__new__(type(value))
    for name in names:
        if hasattr(value, name):
            object.__setattr__(clone, name, getattr(value, name))
    return clone


def _set(target: Any, name: str, value: Any) -> None:
    # Frozen ones too: the clone is nobody else's.
    if isinstance(target, msgspec.Struct):
        msgspec.structs.force_setattr(target, name, value)
    else:
        object.__setattr__(target, name, value)
