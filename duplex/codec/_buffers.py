"""Finding buffers inside a value, so that large ones travel beside the payload and not in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import msgspec

from duplex.codec._extensions import LARGE

BYTES_LIKE: Final = frozenset({bytes, bytearray, memoryview})
#: What most elements are, and what need not be looked into.
_ATOMS: Final = frozenset({int, str, float, bool, type(None)})

#: Bytes of the header that msgpack gives to every buffer of LARGE bytes or more (bin 32): the type, and the
#: length in four bytes.
_HEADER: Final = 5
_BIN32: Final = b"\xc6"


def is_large(value: Any) -> bool:
    """Whether ``value`` is a buffer that travels as an attachment."""
    return type(value) in BYTES_LIKE and memoryview(value).nbytes >= LARGE


def may_hold_large(payload: bytes) -> bool:
    """Tell from an encoded value whether it may hold a large buffer: if not, there is none.

    Searches for the header that such a buffer must have, some hundred times faster than a walk over the
    value. Other data can look like it; then the walk is in vain.
    """
    room = len(payload) - _HEADER
    # The highest byte of the length says almost always 0; searching for it too skips nearly all chance hits.
    for high in range((room >> 24) + 1):
        pattern = _BIN32 + bytes((high,))
        at = payload.find(pattern)
        while at >= 0:
            if LARGE <= int.from_bytes(payload[at + 1 : at + _HEADER], "big") <= room - at:
                return True
            at = payload.find(pattern, at + 1)
    return False


def replace_buffers(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every buffer in it, of whatever size, replaced by ``replace(buffer)``.

    Where ``replace`` returns the buffer itself nothing changes, and what holds no changed buffer is returned
    as it is; the rest are new containers that are encoded alike. Keys of dicts are left alone.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind in BYTES_LIKE:
        return replace(value)
    if isinstance(value, dict):
        return _replace_in_dict(value, replace)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _replace_in_sequence(value, replace)
    names = field_names(value)
    return _replace_in_fields(value, names, replace) if names else value


def field_names(value: Any) -> tuple[str, ...]:
    """Return the fields of a ``Struct``, a dataclass or an attrs object; nothing for all other values."""
    kind: Any = type(value)
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return tuple(fields)
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))


def _replace_in_dict(value: dict[Any, Any], replace: Callable[[Any], Any]) -> dict[Any, Any]:
    result: dict[Any, Any] | None = None
    for key, item in value.items():
        new = replace_buffers(item, replace)
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
        new = replace_buffers(item, replace)
        if new is not item:
            if result is None:
                result = list(value)  # for sets too: the replacements need no hash
            result[index] = new
    return value if result is None else result


def _replace_in_fields(value: Any, names: tuple[str, ...], replace: Callable[[Any], Any]) -> Any:
    result: Any = None
    for name in names:
        item = getattr(value, name, None)
        new = replace_buffers(item, replace)
        if new is not item:
            if result is None:
                result = _clone(value, names)
            # Frozen ones too: the clone is nobody else's.
            if isinstance(result, msgspec.Struct):
                msgspec.structs.force_setattr(result, name, new)
            else:
                object.__setattr__(result, name, new)
    return value if result is None else result


def _clone(value: Any, names: tuple[str, ...]) -> Any:
    # Neither __init__ nor __post_init__ may run: they may refuse, or do things.
    if isinstance(value, msgspec.Struct):
        return copy.copy(value)
    clone = object.__new__(type(value))
    for name in (*names, *getattr(value, "__dict__", ())):
        if hasattr(value, name):
            object.__setattr__(clone, name, getattr(value, name))
    return clone
