"""Arrays and scalars of numpy, which is optional: it is imported here, when the first of them is met."""

from __future__ import annotations

import math
import re
import sys
import types
import typing
from typing import Any, Final

from duplex._errors import DecodeError

if typing.TYPE_CHECKING:
    import numpy as np

#: The dtypes that travel: numbers, dates and fixed-width strings, each a plain run of bytes. Objects would
#: be pickles; records (structured dtypes) lose their fields in ``dtype.str``.
_DTYPE: Final = re.compile(r"\|b1|[<>|][iu][1248]|[<>](f2|f4|f8|f16|c8|c16|c32)|\|S\d+|[<>]U\d+|[<>][mM]8(\[\w+\])?")


def numpy_or_none() -> Any:
    """Return numpy if someone has imported it: without that, no value and no type can be of it."""
    return sys.modules.get("numpy")


def load_numpy() -> Any:
    """Import numpy; raises ``DecodeError`` if it is not installed, since only arriving arrays need it."""
    try:
        import numpy
    except ImportError:
        raise DecodeError("an array arrived, but numpy is missing here: install duplex-rpc[numpy]") from None
    return numpy


def is_numpy_type(annotation: Any) -> bool:
    """Whether a type is an array or a scalar type of numpy, such as ``NDArray[np.float64]``."""
    np = numpy_or_none()
    origin = typing.get_origin(annotation) or annotation
    return np is not None and isinstance(origin, type) and issubclass(origin, (np.ndarray, np.generic))


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array."""
    np = numpy_or_none()
    return np is not None and isinstance(value, np.ndarray)


def plain_scalar(value: Any) -> Any:
    """Return the plain form of a scalar such as ``np.int64(3)``, or ``value`` itself if there is none."""
    np = numpy_or_none()
    if np is None or not isinstance(value, np.generic):
        return value
    if isinstance(value, np.floating):
        return float(value)  # .item() of a long double is a long double
    if isinstance(value, (np.integer, np.bool_, np.str_, np.bytes_)) and not isinstance(value, np.timedelta64):
        return value.item()
    return value


def describe(array: np.ndarray[Any, Any]) -> tuple[str, list[int], memoryview]:
    """Return an array's dtype, shape and data: a view of its own memory if that is in C order, else of a copy.

    Raises:
        ValueError: it cannot travel; the message says why.
    """
    np = load_numpy()
    text = array.dtype.str
    if array.dtype.hasobject or array.dtype.fields is not None or not _DTYPE.fullmatch(text):
        raise ValueError(
            f"arrays of dtype {array.dtype} cannot travel: send numbers, booleans, dates or fixed-width "
            f"strings, and the fields of records one by one"
        )
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("a masked array would lose its mask: send .filled(), or .data and .mask")
    if not array.dtype.itemsize:
        raise ValueError(f"arrays of dtype {array.dtype} hold nothing: give it a width")
    plain = np.ascontiguousarray(array).view(np.ndarray)
    if not array.size:
        return text, list(array.shape), memoryview(b"")
    # A view as bytes, since dates and half floats have no format that memoryview knows.
    return text, list(array.shape), memoryview(plain.reshape(-1).view(np.uint8))


def build(dtype: str, shape: list[int], data: Any) -> np.ndarray[Any, Any]:
    """Make an array over ``data`` without a copy, read-only. Raises ``DecodeError`` if they do not go together."""
    np = load_numpy()
    if not _DTYPE.fullmatch(dtype):
        raise DecodeError(f"arrays of dtype {dtype!r} cannot travel")
    view = memoryview(data).toreadonly()
    try:
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if not kind.itemsize or size != view.nbytes:
            raise DecodeError(
                f"an array of {dtype} with shape {shape} has {size} bytes, but {view.nbytes} arrived"
            )
        array: np.ndarray[Any, Any] = np.ndarray(shape, kind, view)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"no array of {dtype!r} with shape {shape}: {error}") from None
    _check_content(np, array)
    return array


def _check_content(np: Any, array: Any) -> None:
    """Refuse what numpy itself would never put into memory and does not expect there."""
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise DecodeError("an array of booleans holds something other than 0 and 1")
    if array.dtype.kind == "U" and array.size:
        points = np.frombuffer(array.reshape(-1).data.cast("B"), array.dtype.byteorder + "u4")
        if points.max() > sys.maxunicode:
            raise DecodeError("an array of strings holds something other than Unicode")


def adapt(value: Any, annotation: Any) -> Any:
    """Return ``value`` as ``annotation``, an array or scalar type of numpy. Raises ``DecodeError``."""
    np = load_numpy()
    origin = typing.get_origin(annotation) or annotation
    if issubclass(origin, np.generic):
        return _adapt_scalar(np, value, origin)
    if not isinstance(value, np.ndarray):
        raise DecodeError(f"Expected `{origin.__name__}`, got `{type(value).__name__}`")
    arguments = typing.get_args(annotation)
    if len(arguments) == 2:
        _check_shape(value, arguments[0])
        _check_dtype(np, value, arguments[1])
    return value


def _check_shape(value: Any, shape: Any) -> None:
    sizes = typing.get_args(shape)
    if typing.get_origin(shape) is tuple and Ellipsis not in sizes and len(sizes) != value.ndim:
        raise DecodeError(f"Expected an array of {len(sizes)} dimensions, got {value.ndim}")


def _check_dtype(np: Any, value: Any, dtype: Any) -> None:
    for scalar in typing.get_args(dtype):
        choices = typing.get_args(scalar) if _is_union(scalar) else (scalar,)
        kinds = tuple(typing.get_origin(choice) or choice for choice in choices)
        if not all(isinstance(kind, type) for kind in kinds):
            return  # Any, or a type variable
        if not issubclass(value.dtype.type, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise DecodeError(f"Expected an array of `{names}`, got one of `{value.dtype}`")


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _adapt_scalar(np: Any, value: Any, kind: Any) -> Any:
    if issubclass(kind, np.bool_):
        fits = isinstance(value, bool)
    elif issubclass(kind, np.integer):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif issubclass(kind, np.floating):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = False
    if not fits:
        raise DecodeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    try:
        return kind(value)
    except (TypeError, OverflowError) as error:
        raise DecodeError(f"Expected `{kind.__name__}`: {error}") from None
