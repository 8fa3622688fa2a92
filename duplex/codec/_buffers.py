"""Looking into a value for what needs special care: large buffers, and objects that would lose everything."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from duplex.codec._extensions import LARGE

BYTES_LIKE: Final = frozenset({bytes, bytearray, memoryview})
#: What most elements are, and what need not be looked into.
_ATOMS: Final = frozenset({int, str, float, bool, type(None)})

#: How many parts of a value :func:`holds_hollow` looks at, and how many of each part.
_NEAR: Final = 1000

#: The header that msgpack gives to every buffer of LARGE bytes or more (bin 32): this, and four bytes of length.
_BIN32: Final = b"\xc6"
_HEADER: Final = 5


def is_large(value: Any) -> bool:
    """Whether ``value`` is a buffer that travels as an attachment."""
    return type(value) in BYTES_LIKE and memoryview(value).nbytes >= LARGE


def may_hold_large(payload: bytes) -> bool:
    """Tell from an encoded value whether it may hold a large buffer: if not, there is none.

    Searches for the header that such a buffer must have, which is much faster than a walk over the value.
    Other data can look like it; then the walk is in vain.
    """
    # One byte is found at the speed of memory. It is rare in text and integers, but every 256th of the bytes
    # of floats: after some hits in vain the next byte is searched for as well, the highest of the length,
    # which is 0 under 16 MiB. If that is no help either, the walk shall decide.
    found = _search(payload, _BIN32, 256)
    if found is None:
        highest = range((len(payload) >> 24) + 1)
        results = [_search(payload, _BIN32 + bytes((high,)), 4096) for high in highest]
        found = any(result is not False for result in results)
    return found


def _search(payload: bytes, pattern: bytes, attempts: int) -> bool | None:
    """Search for a header that begins with ``pattern``; ``None`` if it takes more than so many attempts."""
    last = len(payload) - _HEADER - LARGE
    at = payload.find(pattern)
    for _ in range(attempts):
        if not 0 <= at <= last:
            return False
        if LARGE <= int.from_bytes(payload[at + 1 : at + _HEADER], "big") <= last - at + LARGE:
            return True
        at = payload.find(pattern, at + 1)
    return None


def replace_buffers(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every buffer in it, of whatever size, replaced by ``replace(buffer)``; likewise
    every hollow object (:func:`holds_hollow`).

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
    if not names:
        return value
    return replace(value) if _is_hollow(kind, names) else _replace_in_fields(value, names, replace)


def holds_hollow(value: Any) -> bool:
    """Whether there is an object near the surface of ``value`` that would be encoded as an empty map: of an
    attrs class with private fields only, as trio's memory channels are.

    Only some thousand parts are looked at, breadth first, so that this costs little for whatever value.
    """
    pending = [value]
    for item in pending:
        kind = type(item)
        if kind in _ATOMS:
            continue
        parts: Iterable[Any] = ()
        if isinstance(item, dict):
            parts = itertools.islice(item.values(), _NEAR)
        elif isinstance(item, (list, tuple, set, frozenset)):
            parts = itertools.islice(item, _NEAR)
        elif names := field_names(item):
            if _is_hollow(kind, names):
                return True
            parts = [getattr(item, name, None) for name in names]
        if len(pending) < _NEAR:
            pending += parts
    return False


def _is_hollow(kind: type, names: tuple[str, ...]) -> bool:
    return "__attrs_attrs__" in kind.__dict__ and all(name.startswith("_") for name in names)


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
    for name in names:
        if hasattr(value, name):
            object.__setattr__(clone, name, getattr(value, name))
    return clone
