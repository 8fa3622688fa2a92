"""Arrays and scalars of numpy, which is optional: it is imported here, when the first of them is met."""

from __future__ import annotations

import itertools
import math
import re
import sys
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from duplex._errors import DecodeError

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

#: The dtypes that travel: numbers, dates and fixed-width strings, each a plain run of bytes. Objects would
#: be pickles; records (structured dtypes) lose their fields in ``dtype.str``.
_DTYPE: Final = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f(?:2|4|8|16)|[<>]c(?:8|16|32)|[<>][mM]8(?:\[\w+\])?|(?:\|S|[<>]U)[1-9]\d{0,5}"
)

#: How many rows an array may have that has nothing in them.
_EMPTY_ROWS: Final = 65_536


def _numpy_if_used() -> Any:
    """Return numpy if someone has imported it: without that, no value and no type can be of it."""
    if sys.modules.get("numpy") is None:
        return None
    return _numpy()  # by import, which waits if another thread has not finished it


def _numpy() -> Any:
    import numpy as np

    return np


def is_array_type(annotation: Any) -> bool:
    """Whether a type is an array type, such as ``NDArray[np.float64]``."""
    np = _numpy_if_used()
    return np is not None and _is_subclass(annotation, np.ndarray)


def is_scalar_type(annotation: Any) -> bool:
    """Whether a type is a scalar type of numpy, such as ``np.int64``."""
    np = _numpy_if_used()
    return np is not None and _is_subclass(annotation, np.generic)


def _is_subclass(annotation: Any, base: type) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, base)


# -- out -----------------------------------------------------------------------------------------------


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array."""
    np = _numpy_if_used()
    return np is not None and isinstance(value, np.ndarray)


def plain_scalar(value: Any) -> Any:
    """Return the plain form of a number such as ``np.int64(3)``, or ``value`` itself if there is none."""
    np = _numpy_if_used()
    if np is None:
        return value
    if isinstance(value, np.floating):
        plain = float(value)  # .item() of a long double is a long double
        return plain if plain == value or plain != plain else value
    if isinstance(value, (np.integer, np.bool_)) and not isinstance(value, np.timedelta64):
        return value.item()
    return value


def describe(array: Array) -> tuple[str, list[int], memoryview]:
    """Return an array's dtype, shape and data as bytes: a view of its own memory if that is in C order, else
    of a copy.

    Raises:
        ValueError: it cannot travel; the message says why.
    """
    np = _numpy()
    if not _DTYPE.fullmatch(array.dtype.str):
        raise ValueError(
            f"an array of dtype {array.dtype} cannot travel: send numbers, booleans, dates or strings of "
            f"fixed width, and the fields of records one by one"
        )
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("a masked array would lose its mask: send .filled(), or .data and .mask")
    if not array.size:
        if _has_empty_rows(array.shape):
            raise ValueError(f"an array of shape {array.shape} is nothing but rows without elements")
        return array.dtype.str, list(array.shape), memoryview(b"")
    plain = np.ascontiguousarray(array).view(np.ndarray)
    # As bytes before it becomes a memoryview, which has no format for dates.
    return array.dtype.str, list(array.shape), memoryview(plain.reshape(-1).view(np.uint8))


def _has_empty_rows(shape: Sequence[int]) -> bool:
    """Whether an array without elements has very many rows. It takes no memory until somebody makes a list
    of it, or a loop over it: then it takes all there is, and few bytes may have asked for it."""
    return math.prod(itertools.takewhile(bool, shape)) > _EMPTY_ROWS


# -- in ------------------------------------------------------------------------------------------------


def build(dtype: str, shape: list[int], data: Any) -> Array:
    """Make a read-only array over ``data`` without a copy.

    Raises:
        DecodeError: they do not go together, or numpy is not installed.
    """
    try:
        np = _numpy()
    except ImportError:
        raise DecodeError("an array arrived, but numpy is missing here: install duplex-rpc[numpy]") from None
    if not _DTYPE.fullmatch(dtype):
        raise DecodeError(f"no array can have the dtype {dtype!r}")
    view = memoryview(data).toreadonly()
    try:
        kind = np.dtype(dtype)
        array = np.ndarray(shape, kind, view)
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"no array of {dtype!r} and shape {shape} is possible: {error}") from None
    # numpy has checked only that the buffer is not too small.
    if math.prod(shape) * kind.itemsize != view.nbytes:
        raise DecodeError(f"{view.nbytes} bytes are not an array of {dtype!r} and shape {shape}")
    if array.size:
        _check_content(np, kind, view)
    elif _has_empty_rows(shape):
        raise DecodeError(f"an array of shape {shape} is nothing but rows without elements")
    return typing.cast("Array", array)


def _check_content(np: Any, kind: Any, view: memoryview) -> None:
    """Refuse what numpy itself would never put into memory, and does not expect to find there."""
    if kind.kind == "b" and np.frombuffer(view, np.uint8).max() > 1:
        raise DecodeError("an array of booleans holds something other than 0 and 1")
    if kind.kind == "U" and np.frombuffer(view, f"{kind.str[0]}u4").max() > sys.maxunicode:
        raise DecodeError("an array of strings holds something other than Unicode")


def adapt_array(value: Any, annotation: Any) -> Any:
    """Return ``value`` if it is of the array type ``annotation``. Raises ``DecodeError``."""
    np = _numpy()
    if not isinstance(value, np.ndarray):
        raise DecodeError(f"Expected `ndarray`, got `{type(value).__name__}`")
    shape, dtype = (*typing.get_args(annotation), Any, Any)[:2]
    sizes = typing.get_args(shape)
    if typing.get_origin(shape) is tuple and Ellipsis not in sizes and len(sizes) != value.ndim:
        raise DecodeError(f"Expected an array of {len(sizes)} dimensions, got one of {value.ndim}")
    for scalar in typing.get_args(dtype):
        kinds = _scalar_types(np, scalar)
        if kinds and not issubclass(value.dtype.type, kinds):
            names = " or ".join(f"`{kind.__name__}`" for kind in kinds)
            raise DecodeError(f"Expected an array of {names}, got one of `{value.dtype}`")
    return value


def _scalar_types(np: Any, scalar: Any) -> tuple[type, ...]:
    """Return the types that the parameter of a dtype allows; empty if it allows all, as ``Any`` does."""
    union = typing.get_origin(scalar) in (typing.Union, types.UnionType)
    choices = typing.get_args(scalar) if union else (scalar,)
    kinds = tuple(typing.get_origin(choice) or choice for choice in choices)
    return kinds if all(_is_subclass(kind, np.generic) for kind in kinds) else ()


def adapt_scalar(value: Any, kind: Any) -> Any:
    """Return a plain ``value`` as the scalar type ``kind``. Raises ``DecodeError`` if that would change it."""
    np = _numpy()
    if issubclass(kind, np.bool_):
        fits = type(value) is bool
    elif issubclass(kind, np.integer) and not issubclass(kind, np.timedelta64):
        fits = type(value) is int
    else:
        fits = issubclass(kind, np.floating) and type(value) in (int, float)
    if not fits:
        raise DecodeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    try:
        with np.errstate(over="raise"):
            return kind(value)
    except (TypeError, OverflowError, FloatingPointError) as error:
        raise DecodeError(f"Expected `{kind.__name__}`: {error}") from None
