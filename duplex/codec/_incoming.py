"""One value on its way in: hands out its attachments and imports its live values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import msgspec

from duplex._elements import COSTLY
from duplex._errors import DecodeError
from duplex.codec import _numpy
from duplex.codec._base import Buffer, LiveKind, LiveValues
from duplex.codec._elements import COST_OF_LOCAL_TIME, most_elements, too_many
from duplex.codec._explain import BAD_BYTES, decode_error
from duplex.codec._extensions import BUFFER, LOCAL_TIME, NDARRAY, read_array, read_local_time, read_number

_LIVE: Final = {int(kind): kind for kind in LiveKind}


@final
class Incoming:
    """The context of decoding one value.

    Args:
        attachments: what came beside the payload.
        live: for callbacks and channels.
        views: leave large buffers as views of the attachments; else they become ``bytes``.
    """

    __slots__ = ("_attachments", "_extensions", "_live", "_taken", "_views", "buffers")

    def __init__(self, attachments: Sequence[Buffer], live: LiveValues | None, *, views: bool) -> None:
        self._attachments = attachments
        self._live = live
        self._taken: set[int] = set()
        self._extensions = 0
        self._views = views
        #: How many views the value holds.
        self.buffers = 0

    def decode(self, payload: bytes) -> Any:
        """Return the value with its extension types resolved, all else in msgspec's plain forms.
        Raises ``DecodeError``."""
        try:
            value = msgspec.msgpack.decode(payload, ext_hook=self._extension)
        except BAD_BYTES as error:
            raise decode_error(error) from None
        count = len(self._attachments)
        if len(self._taken) != count:
            raise DecodeError(
                f"the payload has no place for {count - len(self._taken)} of {count} attachments"
            )
        return value

    def _extension(self, code: int, body: memoryview) -> Any:
        self._extensions += COSTLY if code != LOCAL_TIME else COST_OF_LOCAL_TIME
        if self._extensions > most_elements(self._live):
            raise too_many(most_elements(self._live))
        if code == BUFFER:
            return self._buffer(read_number(code, body))
        if code == NDARRAY:
            array = read_array(body)
            data = array.data if isinstance(array.data, bytes) else self._take(array.data)
            return _numpy.build(array.dtype, array.shape, data)
        if code == LOCAL_TIME:
            return read_local_time(body)
        kind = _LIVE.get(code)
        if kind is None:
            raise DecodeError(f"unknown extension type {code}")
        if self._live is None:
            raise DecodeError(f"a {kind.name.lower().replace('_', ' ')} arrived where none can be used")
        return self._live.import_(kind, read_number(code, body))

    def _take(self, index: int) -> Buffer:
        # Each only once: a payload of a few bytes could otherwise ask for any number of copies.
        count = len(self._attachments)
        if index >= count:
            raise DecodeError(f"the payload names attachment {index}, but {count} came")
        if index in self._taken:
            raise DecodeError(f"the payload names attachment {index} twice")
        self._taken.add(index)
        return self._attachments[index]

    def _buffer(self, index: int) -> Buffer:
        buffer = self._take(index)
        if self._views:
            self.buffers += 1
            return memoryview(buffer).toreadonly()
        return bytes(buffer)  # which is the very object, if it is bytes
