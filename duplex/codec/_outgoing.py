"""One value on its way out: collects its attachments and exports its live values."""

from __future__ import annotations

from typing import Any, final

import msgspec

from duplex._errors import EncodeError
from duplex.codec import _numpy
from duplex.codec._base import Buffer, LiveValues
from duplex.codec._extensions import BUFFER, LARGE, ArrayBody, array_extension, number_extension
from duplex.codec._large import replace_large


@final
class NotPlain(Exception):  # noqa: N818 - not an error
    """Raised by :func:`plain_only`: the value holds something that needs an :class:`Outgoing`."""


def plain_only(value: Any) -> Any:
    """The hook of encoders that work without context: scalars of numpy become plain, all else is refused."""
    plain = _numpy.plain_scalar(value)
    if plain is value:
        raise NotPlain(value)
    return plain


@final
class Outgoing:
    """The context of encoding one value."""

    __slots__ = ("_live", "_max_attachments", "attachments")

    def __init__(self, live: LiveValues | None, max_attachments: int) -> None:
        self.attachments: list[Buffer] = []
        self._live = live
        self._max_attachments = max_attachments

    def encode(self, value: Any) -> bytes:
        """Return the payload; the attachments are then in :attr:`attachments`."""
        return msgspec.msgpack.Encoder(enc_hook=self._hook).encode(replace_large(value, self._detach))

    def _detach(self, buffer: Any) -> Any:
        if isinstance(buffer, memoryview):
            buffer = buffer.cast("B") if buffer.c_contiguous else memoryview(buffer.tobytes())
            if buffer.nbytes < LARGE:
                return buffer
        if len(self.attachments) >= self._max_attachments:
            return buffer
        # A bytearray must not be resized while it is on its way; the view sees to that.
        return number_extension(BUFFER, self._attach(memoryview(buffer) if type(buffer) is bytearray else buffer))

    def _attach(self, buffer: Buffer) -> int:
        self.attachments.append(buffer)
        return len(self.attachments) - 1

    def _hook(self, value: Any) -> Any:
        if _numpy.is_array(value):
            return self._array(value)
        plain = _numpy.plain_scalar(value)
        if plain is not value:
            return plain
        exported = None if self._live is None else self._live.export(value)
        if exported is None:
            raise NotPlain(value)
        return number_extension(*exported)

    def _array(self, array: Any) -> msgspec.msgpack.Ext:
        try:
            dtype, shape, data = _numpy.describe(array)
        except ValueError as error:
            raise EncodeError(str(error)) from None
        if data.nbytes < LARGE or len(self.attachments) >= self._max_attachments:
            return array_extension(ArrayBody(dtype, shape, bytes(data)))
        return array_extension(ArrayBody(dtype, shape, self._attach(data)))
