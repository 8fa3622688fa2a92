"""The msgpack extension types of Duplex, and what stands in their bodies (drpc.md).

===== =============== =================================================================================
 type what            body
===== =============== =================================================================================
   −1 timestamp       as the msgpack specification says
    1 buffer          uint: index of the attachment
    2 ndarray         array of dtype (numpy's ``dtype.str``), shape (array of uint), and data: a uint is the
                      index of an attachment, a bin is the data itself; in C order either way
    3 callback        uint: its number on this link
    4 send-channel    uint: the number of the channel
    5 receive-channel uint: the number of the channel
    6 local-time      str: date and time without an offset from UTC, as in RFC 3339
===== =============== =================================================================================

Every attachment is named exactly once in its payload.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, final

import msgspec

from duplex._errors import DecodeError

BUFFER: Final = 1
NDARRAY: Final = 2
LOCAL_TIME: Final = 6

#: Buffers of this many bytes or more travel as attachments; below it the copy is cheaper than the frame.
LARGE: Final = 64 * 1024

_UINT = Annotated[int, msgspec.Meta(ge=0)]


@final
class ArrayBody(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The body of an ndarray, with bounds that keep what follows cheap."""

    dtype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[_UINT], msgspec.Meta(max_length=64)]
    data: _UINT | bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_number: Final = msgspec.msgpack.Decoder(_UINT).decode
_decode_local_time: Final = msgspec.msgpack.Decoder(Annotated[dt.datetime, msgspec.Meta(tz=False)]).decode
_decode_array: Final = msgspec.msgpack.Decoder(ArrayBody).decode


def number_extension(code: int, number: int) -> msgspec.msgpack.Ext:
    """Make an extension whose body is one number."""
    return msgspec.msgpack.Ext(int(code), _encode(number))


def local_time_extension(time: dt.datetime) -> msgspec.msgpack.Ext:
    """Make the extension of a date and time without a time zone."""
    return msgspec.msgpack.Ext(LOCAL_TIME, _encode(time))


def array_extension(body: ArrayBody) -> msgspec.msgpack.Ext:
    """Make the extension of an ndarray."""
    return msgspec.msgpack.Ext(NDARRAY, _encode(body))


def read_number(code: int, body: memoryview) -> int:
    """Read a body that is one number; raises ``DecodeError``."""
    try:
        return _decode_number(body)
    except ValueError as error:
        raise DecodeError(f"extension type {code} holds no number: {error}") from None


def read_local_time(body: memoryview) -> dt.datetime:
    """Read a body that is a date and time without a time zone; raises ``DecodeError``."""
    try:
        return _decode_local_time(body)
    except ValueError as error:
        raise DecodeError(f"extension type {LOCAL_TIME} holds no time: {error}") from None


def read_array(body: memoryview) -> ArrayBody:
    """Read the body of an ndarray; raises ``DecodeError``."""
    try:
        return _decode_array(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"extension type {NDARRAY} holds no array: {error}") from None
