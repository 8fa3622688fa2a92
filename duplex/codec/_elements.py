"""Elements of a payload, counted before there are any objects.

A payload of one byte for each empty list becomes objects of sixty times its size, and while they are made nothing
else runs. So the number of elements is bounded by :attr:`duplex.Limits.max_elements`: every value counts as one,
each key and each value of a map, and arrays and maps themselves. No element takes less than a byte, so only
payloads of more bytes than that are looked at.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from typing import Final

from duplex._config import Limits
from duplex._elements import holds_more
from duplex._errors import DecodeError
from duplex.codec._base import LiveValues

_DEFAULT: Final = Limits().max_elements
#: Bytes of a payload beyond which it may be many objects that are made of it.
MANY_BYTES: Final = 16 * 1024
#: A date and time without a time zone counts as so many; it costs less than what is :data:`~duplex._elements.COSTLY`.
COST_OF_LOCAL_TIME: Final = 4

#: What stands before every element of JSON but the first, or at the begin of a container.
_MARKS: Final = b",:[{"
#: Text in JSON. It may end with the payload: then there is none of it left to look at again and again.
_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def check_msgpack(payload: bytes, live: LiveValues | None) -> None:
    """Raise ``DecodeError`` if a payload in msgpack holds more elements than its receiver takes. What is not msgpack
    at all is left to the decoder."""
    limit = most_elements(live)
    if holds_more(payload, limit):
        raise too_many(limit)


def check_json(payload: bytes, live: LiveValues | None) -> None:
    """Raise ``DecodeError`` if a payload in JSON holds more elements than its receiver takes, empty arrays and
    objects counted twice."""
    limit = most_elements(live)
    if len(payload) > limit and _marks(payload) >= limit and _marks(_TEXT.sub(b"", payload)) >= limit:
        raise too_many(limit)


def most_elements(live: LiveValues | None) -> int:
    """Return how many elements a payload may hold."""
    return _DEFAULT if live is None else live.max_elements


def _marks(payload: bytes) -> int:
    return len(payload) - len(payload.translate(None, _MARKS))


def too_many(limit: int) -> DecodeError:
    """The error for a payload with too many elements."""
    return DecodeError(
        f"the payload holds more than {limit} elements, the receiver's limit (Limits.max_elements): send it in "
        f"pieces over a stream, or numbers as an array or bytes"
    )


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """Make many objects without the garbage collector looking at all of them again and again: that would take
    longer than to make them."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
