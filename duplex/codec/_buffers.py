"""Looking into a value for what needs special care: large buffers, times without a zone, and objects that would lose
everything."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from duplex.codec._extensions import LARGE

BYTES_LIKE: Final = frozenset({bytes, bytearray, memoryview})
#: What :func:`replace_buffers` asks about.
SPECIAL: Final = BYTES_LIKE | {dt.datetime}
#: What most elements are, and what need not be looked into.
ATOMS: Final = frozenset({int, str, float, bool, type(None)})

#: Types of which it is kept what is encoded of them.
_KINDS: Final = 1024
#: How many parts of a value :func:`holds_hollow` looks at, and how many of each part.
_NEAR: Final = 1000

#: The header that msgpack gives to every buffer of LARGE bytes or more: its type, bin 32, and the length in four
#: bytes, here of less than 16 MiB.
_HEADER: Final = re.compile(rb"\xc6(?=\x00[^\x00])", re.DOTALL)
_HEADER_SIZE: Final = 5
#: How many chance hits are looked at before the walk decides.
_ATTEMPTS: Final = 1000


#: Begins the text that msgspec makes of a date and time without a time zone, which is 19 or 26 bytes long.
_LOCAL_TIME: Final = re.compile(rb"[\xb3\xba]\d{4}-\d\d-\d\dT")


def may_hold_local_time(payload: bytes) -> bool:
    """Tell from an encoded value whether it may hold a date and time without a time zone. Text can look like it."""
    return (0xB3 in payload or 0xBA in payload) and _LOCAL_TIME.search(payload) is not None


def is_large(value: Any) -> bool:
    """Whether ``value`` is a buffer that travels as an attachment."""
    return type(value) in BYTES_LIKE and memoryview(value).nbytes >= LARGE


def may_hold_large(payload: bytes) -> bool:
    """Tell from an encoded value whether it may hold a large buffer: if not, there is none.

    Searches for the header that such a buffer must have, at some 3 GB/s, which is much faster than a walk over
    the value. Other data can look like it; then the walk is in vain.
    """
    room = len(payload) - _HEADER_SIZE
    pattern = _HEADER
    if room >= 1 << 24:
        highest = re.escape(bytes((min(room >> 24, 255),)))
        pattern = re.compile(rb"\xc6(?=\x00[^\x00]|[\x01-" + highest + rb"])", re.DOTALL)
    for count, match in enumerate(pattern.finditer(payload)):
        at = match.start()
        if count == _ATTEMPTS or int.from_bytes(payload[at + 1 : at + _HEADER_SIZE], "big") <= room - at:
            return True
    return False


def replace_buffers(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every buffer in it, of whatever size, replaced by ``replace(buffer)``; likewise
    every ``datetime`` and every hollow object (:func:`holds_hollow`).

    Where ``replace`` returns the very part nothing changes, and what holds no changed buffer is returned
    as it is; the rest are new containers that are encoded alike. Keys of dicts are left alone.
    """
    kind: Any = type(value)
    if kind in ATOMS:
        return value
    if kind in SPECIAL:
        return replace(value)
    if isinstance(value, dict):
        return _replace_in_dict(value, replace)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _replace_in_sequence(value, replace)
    if _is_hollow(kind):
        return replace(value)
    names = field_names(value)
    return _replace_in_fields(value, names, replace) if names else value


def holds_hollow(value: Any) -> bool:
    """Whether there is an object near the surface of ``value`` that would be encoded as an empty map: of an
    attrs class with private fields only, as trio's memory channels are.

    Only some thousand parts are looked at, breadth first, so that this costs little for whatever value.
    """
    pending = [value]
    for item in pending:
        kind: Any = type(item)
        if kind in ATOMS:
            continue
        parts: Iterable[Any] = ()
        if isinstance(item, dict):
            parts = itertools.islice(item.values(), _NEAR)
        elif isinstance(item, (list, tuple, set, frozenset)):
            parts = itertools.islice(item, _NEAR)
        elif _is_hollow(kind):
            return True
        elif len(pending) < _NEAR:
            parts = [getattr(item, name, None) for name in _field_names(kind)]
        if len(pending) < _NEAR:
            pending += parts
    return False


@functools.lru_cache(_KINDS)
def _is_hollow(kind: type[Any]) -> bool:
    fields = kind.__dict__.get("__attrs_attrs__", ())
    return bool(fields) and all(field.name.startswith("_") for field in fields)


def field_names(value: Any) -> tuple[str, ...]:
    """Return the fields that are encoded of a ``Struct``, a dataclass or an attrs object; nothing for all other
    values."""
    kind: Any = type(value)
    return _field_names(kind)


@functools.lru_cache(_KINDS)
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return tuple(fields)
    # Not what a subclass inherits: msgspec does not encode that, and leaves private fields out.
    attributes = kind.__dict__.get("__attrs_attrs__", ())
    return tuple(field.name for field in attributes if not field.name.startswith("_"))


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
        if type(item) in ATOMS:
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
