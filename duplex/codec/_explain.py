"""The words of errors: what is wrong, where, and what can travel instead."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from duplex._errors import DecodeError, EncodeError
from duplex.codec._buffers import field_names
from duplex.codec._plain import UnfitError

#: What msgspec and its hooks raise for values that cannot travel, and for bytes that are none.
BAD_VALUE: Final = (TypeError, ValueError, OverflowError, RecursionError, BufferError, UnfitError)
BAD_BYTES: Final = (TypeError, ValueError, OverflowError, RecursionError)

#: Newer versions of msgspec say it in words of their own, older ones raise what Python does.
_NOT_UTF_8: Final = "a string is not UTF-8"

_MISSING: Final = re.compile(r"Object missing required field `(?P<field>\w+)`")

#: Nodes that are looked at, at most, to find the place of a bad value.
_SEARCHED: Final = 10_000


def decode_error(error: Exception, box: str = "$", computed: Collection[str] = frozenset()) -> DecodeError:
    """Turn what msgspec raises for bad bytes into a ``DecodeError``.

    Args:
        error: the exception; a ``DecodeError`` is returned as it is.
        box: the path that stands for the value itself, when it was decoded inside something else.
        computed: the fields that dataclasses in the type set themselves.
    """
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, RecursionError):
        return DecodeError("the value is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return DecodeError(_NOT_UTF_8)
    text = str(error).replace("Invalid UTF-8 encoded string", _NOT_UTF_8)
    missing = _MISSING.match(text) if computed else None
    if missing is not None and missing["field"] in computed:
        hint = (
            ", which is sent like all others although its class computes it; with a default it may be missing"
        )
        text = f"{missing[0]}{hint}{text[missing.end() :]}"
    what, mark, where = text.rpartition(" - at ")
    if not mark:
        return DecodeError(where)
    where = where.replace(f"`{box}", "`$", 1)
    return DecodeError(what if where == "`$`" else f"{what} - at {where}")


def encode_error(error: Exception, value: Any, hint: str, *, arguments: bool = False) -> EncodeError:
    """Turn what msgspec and its hooks raise for a bad value into an ``EncodeError``.

    Args:
        error: one of :data:`BAD_VALUE`; an ``EncodeError`` is returned as it is.
        value: what was to be encoded.
        hint: what can travel, for a value of a type that cannot.
        arguments: whether ``value`` is ``(positional, keyword)``.
    """
    if isinstance(error, EncodeError):
        return error
    if isinstance(error, UnfitError):
        bad = error.value
        reason = error.reason or f"values of type {type(bad).__name__} cannot travel: {hint}"
        return _located(reason, value, lambda item: item is bad, arguments)
    if isinstance(error, OverflowError) and "date" in str(error):
        reason = "a time that is before the year 1 or after 9999 in UTC cannot travel: send it as text"
        return _located(reason, value, _is_beyond_years, arguments)
    if isinstance(error, OverflowError):
        reason = "an integer of more than 64 bits cannot travel: send it as text"
        return _located(reason, value, _is_big, arguments)
    if isinstance(error, UnicodeEncodeError):
        reason = "text with a lone surrogate is not Unicode and cannot travel: send it as bytes"
        return _located(reason, value, _has_surrogate, arguments)
    if isinstance(error, RecursionError):
        return EncodeError("the value is nested too deeply, or holds itself")
    return EncodeError(f"the value cannot travel: {error}")


def _is_big(item: Any) -> bool:
    return isinstance(item, int) and not -(1 << 63) <= item < 1 << 64


def _is_beyond_years(item: Any) -> bool:
    if not isinstance(item, dt.datetime) or item.tzinfo is None:
        return False
    try:
        item.astimezone(dt.UTC)
    except OverflowError:
        return True
    return False


def _has_surrogate(item: Any) -> bool:
    return isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item)


def _located(reason: str, value: Any, matches: Callable[[Any], bool], arguments: bool) -> EncodeError:
    path = _find(value, matches)
    if path is None:
        return EncodeError(reason)
    if not arguments or len(path) < 2:
        return EncodeError(f"{reason} - at `{''.join(['$', *path])}`" if path else reason)
    part, name, *rest = path
    # By position people count from one, as Python's own messages do.
    place = f"argument {int(name[1:-1]) + 1}" if part == "[0]" else f"argument {name.removeprefix('.')!r}"
    return EncodeError(f"{place}: {reason}" + (f" - at `{''.join(['$', *rest])}`" if rest else ""))


def _find(value: Any, matches: Callable[[Any], bool]) -> tuple[str, ...] | None:
    """Return the steps to the first part of ``value`` that matches; ``None`` if it is not near enough."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), value)]
    for _ in range(_SEARCHED):
        if not pending:
            break
        path, item = pending.pop()
        if matches(item):
            return path
        children = [((*path, step), child) for step, child in _children(item)]
        pending.extend(reversed(children))
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            step = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
            yield step, item
            yield f"{step} (the key)", key
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    else:
        for name in field_names(value):
            yield f".{name}", getattr(value, name, None)
