"""One value on its way out: collects its attachments and exports its live values."""

from __future__ import annotations

import datetime as dt
from typing import Any, final

import msgspec

from duplex.codec import _numpy
from duplex.codec._base import Buffer, LiveValues
from duplex.codec._buffers import BYTES_LIKE, replace_buffers
from duplex.codec._extensions import (
    BUFFER,
    LARGE,
    ArrayBody,
    array_extension,
    local_time_extension,
    number_extension,
)
from duplex.codec._plain import UnfitError, plain_form


@final
class Outgoing:
    """The context of encoding one value.

    Args:
        live: for callbacks and channels.
        max_attachments: buffers beyond this number stay in the payload.
    """

    __slots__ = ("_live", "_max_attachments", "attachments")

    def __init__(self, live: LiveValues | None, max_attachments: int) -> None:
        self.attachments: list[Buffer] = []
        self._live = live
        self._max_attachments = max_attachments

    def encode(self, value: Any) -> bytes:
        """Return the payload; the attachments are then in :attr:`attachments`."""
        return msgspec.msgpack.Encoder(enc_hook=self._hook).encode(replace_buffers(value, self._replace))

    def _replace(self, buffer: Any) -> Any:
        """Return what stands for a buffer in the payload, for a time, or for an object that msgspec would empty."""
        if type(buffer) is dt.datetime:
            return local_time_extension(buffer) if buffer.tzinfo is None else buffer
        if type(buffer) not in BYTES_LIKE:
            return self._hook(buffer)
        if type(buffer) is memoryview:
            # msgspec takes no strided views, and people who count bytes take no other formats.
            buffer = buffer.cast("B") if buffer.c_contiguous and buffer.nbytes else buffer.tobytes()
        if len(buffer) < LARGE or len(self.attachments) >= self._max_attachments:
            return buffer
        if type(buffer) is bytearray:
            buffer = memoryview(buffer)  # while there is a view it cannot be resized
        return number_extension(BUFFER, self._attach(buffer))

    def _attach(self, buffer: Buffer) -> int:
        self.attachments.append(buffer)
        return len(self.attachments) - 1

    def _hook(self, value: Any) -> Any:
        if _numpy.is_array(value):
            return self._array(value)
        plain = plain_form(value)
        if plain is not value:
            return plain
        exported = None if self._live is None else self._live.export(value)
        if exported is None:
            raise UnfitError(value)
        return number_extension(*exported)

    def _array(self, array: Any) -> msgspec.msgpack.Ext:
        try:
            dtype, shape, data = _numpy.describe(array)
        except ValueError as error:
            raise UnfitError(array, str(error)) from None
        if data.nbytes < LARGE or len(self.attachments) >= self._max_attachments:
            return array_extension(ArrayBody(dtype, shape, bytes(data)))
        return array_extension(ArrayBody(dtype, shape, self._attach(data)))
