"""What JSON would change without a word, found and refused.

msgspec writes ``null`` for NaN, the same text for the keys ``1`` and ``"1"``, and offsets from UTC in whole minutes.
All of that can be seen in the payload, so a value is only looked through if its payload gives reason to: the search
is made of a few passes at the speed of C.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any, Final

import msgspec

from duplex.codec._buffers import ATOMS, field_names
from duplex.codec._plain import UnfitError, plain_form

#: A key that may have been a number or a date, or text that ends like a time with an offset.
_SUSPECT: Final = re.compile(rb'"-?\d[^"\\]*":|[+-]\d\d:\d\d"')
#: Floats of msgpack that are no numbers. Other data can look like it; then the value is looked through in vain.
_NO_NUMBER: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")

_MINUTE: Final = dt.timedelta(minutes=1)


def refuse_changes(value: Any, payload: bytes) -> None:
    """Raise :exc:`UnfitError` if JSON has changed something in a value.

    Args:
        value: what was encoded.
        payload: as what.
    """
    if _SUSPECT.search(payload) is not None or (b"null" in payload and _may_hold_no_number(value)):
        _look_through(value)


def _may_hold_no_number(value: Any) -> bool:
    try:
        return _NO_NUMBER.search(msgspec.msgpack.encode(value, enc_hook=plain_form)) is not None
    except OverflowError:  # of an integer that only JSON carries
        return True


def _look_through(value: Any) -> None:
    pending: list[Any] = [value]
    for item in pending:  # which grows
        if type(item) in ATOMS and type(item) is not float:
            continue
        plain = plain_form(item)
        if isinstance(plain, float):
            if not math.isfinite(plain):
                raise UnfitError(
                    item, "NaN and the infinities cannot travel in json: use msgpack, or send None"
                )
        elif isinstance(item, (dt.datetime, dt.time)):
            offset = item.utcoffset()
            if offset is not None and offset % _MINUTE:
                raise UnfitError(
                    item,
                    "an offset from UTC with seconds cannot travel in json: send .astimezone(datetime.UTC)",
                )
        elif isinstance(item, dict):
            if not all(type(key) is str for key in item):
                _check_keys(item)
            pending += item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending += item
        else:
            pending += [getattr(item, name, None) for name in field_names(item)]


def _check_keys(value: dict[Any, Any]) -> None:
    keys = msgspec.json.decode(msgspec.json.encode(dict.fromkeys(value), enc_hook=plain_form))
    if len(keys) < len(value):
        raise UnfitError(
            value,
            "two keys of a dict are the same text in json, as 1 and '1' are: use msgpack, or one type of keys",
        )
