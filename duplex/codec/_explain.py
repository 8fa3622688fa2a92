"""The words of errors: what is wrong, where, and what can travel instead."""

from __future__ import annotations

from typing import Any

import msgspec

from duplex._errors import DecodeError, EncodeError


def decode_error(error: Exception, box: str = "$") -> DecodeError:
    """Turn what msgspec raises for bad bytes into a ``DecodeError``.

    Args:
        error: the exception; a ``DecodeError`` is returned as it is.
        box: the path that stands for the value itself, when it was decoded inside something else.
    """
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, RecursionError):
        return DecodeError("the value is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return DecodeError(f"a string is not UTF-8: {error.reason} at its byte {error.start}")
    message = str(error)
    if box != "$":
        what, mark, where = message.rpartition(" - at ")
        if mark:
            where = where.replace(f"`{box}", "`$", 1)
            message = what if where == "`$`" else f"{what} - at {where}"
    return DecodeError(message)


def encode_error(error: Exception, value: Any, live: Any) -> EncodeError:
    """Turn what msgspec and its hooks raise for a bad value into an ``EncodeError``."""
    if isinstance(error, EncodeError):
        return error
    return EncodeError(f"{error}")
