"""One value on its way in: hands out its attachments and imports its live values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import msgspec

from duplex._errors import DecodeError
from duplex.codec import _numpy
from duplex.codec._base import Buffer, LiveKind, LiveValues
from duplex.codec._explain import decode_error
from duplex.codec._extensions import BUFFER, NDARRAY, read_array, read_number

_LIVE: Final = {int(kind): kind for kind in LiveKind}


@final
class Incoming:
    """The context of decoding one value.

    Args:
        attachments: what came beside the payload.
        live: for callbacks and channels.
        views: leave large buffers as views of the attachments; else they become ``bytes``.
    """

    __slots__ = ("_attachments", "_live", "_taken", "_views")

    def __init__(self, attachments: Sequence[Buffer], live: LiveValues | None, *, views: bool) -> None:
        self._attachments = attachments
        self._live = live
        self._taken: set[int] = set()
        self._views = views

    def decode(self, payload: bytes) -> Any:
        """Return the value with its extension types resolved, all else in msgspec's plain forms."""
        try:
            value = msgspec.msgpack.decode(payload, ext_hook=self._extension)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise decode_error(error) from None
        if len(self._taken) != len(self._attachments):
            unused = len(self._attachments) - len(self._taken)
            raise DecodeError(f"{unused} of {len(self._attachments)} attachments belong to nothing in the payload")
        return value

    def adapt(self, annotation: Any, value: Any) -> Any:
        """The ``dec_hook`` of the second phase."""
        return adapt(self._live, annotation, value)

    def _extension(self, code: int, body: memoryview) -> Any:
        if code == BUFFER:
            return self._buffer(read_number(code, body))
        if code == NDARRAY:
            array = read_array(body)
            data = array.data
            return _numpy.build(array.dtype, array.shape, data if isinstance(data, bytes) else self._take(data))
        kind = _LIVE.get(code)
        if kind is None:
            raise DecodeError(f"unknown extension type {code}")
        if self._live is None:
            raise DecodeError(f"a {kind.name.lower().replace('_', ' ')} arrived where none can be used")
        return self._live.import_(kind, read_number(code, body))

    def _take(self, index: int) -> Buffer:
        # Each only once: a payload of a few bytes could otherwise ask for any number of copies.
        if index >= len(self._attachments) or index in self._taken:
            problem = "is named twice" if index in self._taken else "does not exist"
            raise DecodeError(f"attachment {index} of {len(self._attachments)} {problem}")
        self._taken.add(index)
        return self._attachments[index]

    def _buffer(self, index: int) -> Buffer:
        buffer = self._take(index)
        if type(buffer) is bytes:
            return buffer
        return memoryview(buffer).toreadonly() if self._views else bytes(buffer)


def adapt(live: LiveValues | None, annotation: Any, value: Any) -> Any:
    """Return ``value`` as a type that msgspec does not know. Raises ``DecodeError``."""
    if _numpy.is_numpy_type(annotation):
        return _numpy.adapt(value, annotation)
    if live is None:
        raise DecodeError(f"Expected `{getattr(annotation, '__name__', annotation)}`, which only a call can carry")
    return live.adapt(value, annotation)
