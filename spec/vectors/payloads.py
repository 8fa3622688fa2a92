"""The vectors of DRPC's payloads, written by hand; :mod:`spec.vectors.write` makes the files of them.

Values that not every reader of JSON has are maps with one entry: ``{"bytes": hex}``, ``{"timestamp": text}``,
``{"ndarray": {"dtype":, "shape":, "data": hex}}``, ``{"callback": n}``, ``{"send_channel": n}``,
``{"receive_channel": n}``, ``{"map": [[key, value], ...]}``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgpack

GROUPS: Final[dict[str, tuple[str, list[dict[str, Any]]]]] = {}


def group(name: str, about: str) -> None:
    """Begin a file."""
    GROUPS[name] = (about, [])


def _add(vector: dict[str, Any]) -> None:
    list(GROUPS.values())[-1][1].append(vector)


def pack(value: Any) -> bytes:
    """Return a value in msgpack."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def ext(code: int, body: Any) -> msgpack.ExtType:
    """Return an extension whose body is a value."""
    return msgpack.ExtType(code, pack(body))


def value(
    name: str,
    payload: bytes,
    expected: Any,
    *,
    codec: str = "msgpack",
    attachments: tuple[bytes, ...] = (),
    canonical: bool = True,
) -> None:
    """Add a payload that is a value. If ``canonical``, encoding the value gives this payload."""
    _add(
        {
            "name": name,
            "codec": codec,
            "what": "value",
            "hex": payload.hex(),
            "attachments": [attachment.hex() for attachment in attachments],
            "value": expected,
            "canonical": canonical,
        }
    )


def arguments(
    name: str,
    payload: bytes,
    positional: list[Any],
    keyword: dict[str, Any] | None = None,
    *,
    codec: str = "msgpack",
    attachments: tuple[bytes, ...] = (),
    canonical: bool = True,
) -> None:
    """Add a payload that is the arguments of a call."""
    _add(
        {
            "name": name,
            "codec": codec,
            "what": "arguments",
            "hex": payload.hex(),
            "attachments": [attachment.hex() for attachment in attachments],
            "value": [positional, keyword or {}],
            "canonical": canonical,
        }
    )


def bad(
    name: str, what: str, payload: bytes, *, codec: str = "msgpack", attachments: tuple[bytes, ...] = ()
) -> None:
    """Add a payload that cannot be decoded."""
    _add(
        {
            "name": name,
            "codec": codec,
            "what": what,
            "hex": payload.hex(),
            "attachments": [attachment.hex() for attachment in attachments],
            "error": "undecodable",
        }
    )


group("values", "Values in the three codecs: drpc.md, section 5.")
value("nil", pack(None), None)
value("booleans", pack([True, False]), [True, False])
value("integers", pack([0, -1, 127, 128, -(2**63), 2**64 - 1]), [0, -1, 127, 128, -(2**63), 2**64 - 1])
value("a float", pack(1.5), 1.5)
value("a whole float", pack(1.0), 1.0)
value("floats that are no numbers", pack([math.inf, -math.inf]), [math.inf, -math.inf])
value("text", pack("größer 🐍"), "größer 🐍")
value("bytes", pack(b"\x00\xff"), {"bytes": "00ff"})
value("an array", pack([1, ["two", None]]), [1, ["two", None]])
value("a map", pack({"a": 1, "b": [2]}), {"a": 1, "b": [2]})
value("a map with numbers as keys", pack({1: "one"}), {"map": [[1, "one"]]})
value("the longest encoding of a number", b"\xcf" + bytes(7) + b"\x05", 5, canonical=False)
value(
    "a timestamp of whole seconds",
    pack(msgpack.Timestamp(1767323045)),
    {"timestamp": "2026-01-02T03:04:05+00:00"},
)
value(
    "a timestamp of microseconds",
    pack(msgpack.Timestamp(1767323045, 678000000)),
    {"timestamp": "2026-01-02T03:04:05.678000+00:00"},
)
value(
    "a timestamp before 1970",
    pack(msgpack.Timestamp(-1, 0)),
    {"timestamp": "1969-12-31T23:59:59+00:00"},
)
value("a time without a zone", pack(ext(6, "2026-01-02T03:04:05")), {"local-time": "2026-01-02T03:04:05"})
value(
    "a time without a zone, of microseconds",
    pack(ext(6, "2026-01-02T03:04:05.678000")),
    {"local-time": "2026-01-02T03:04:05.678000"},
)
bad("a time without a zone that has one", "value", pack(ext(6, "2026-01-02T03:04:05Z")))
bad("a time without a zone that is none", "value", pack(ext(6, 5)))
value("a buffer", pack(ext(1, 0)), {"bytes": "616263"}, attachments=(b"abc",), canonical=False)
value(
    "buffers in another order than their attachments",
    pack([ext(1, 1), ext(1, 0)]),
    [{"bytes": "74776f"}, {"bytes": "6f6e65"}],
    attachments=(b"one", b"two"),
    canonical=False,
)
value("an empty buffer", pack(ext(1, 0)), {"bytes": ""}, attachments=(b"",), canonical=False)
value(
    "an ndarray with its data inside",
    pack(ext(2, ["<i2", [2, 2], bytes.fromhex("0100020003000400")])),
    {"ndarray": {"dtype": "<i2", "shape": [2, 2], "data": "0100020003000400"}},
)
value(
    "an ndarray whose data is an attachment",
    pack(ext(2, ["<f8", [1], 0])),
    {"ndarray": {"dtype": "<f8", "shape": [1], "data": "000000000000f83f"}},
    attachments=(bytes.fromhex("000000000000f83f"),),
    canonical=False,
)
value(
    "an ndarray of one element without dimensions",
    pack(ext(2, ["|u1", [], b"\x07"])),
    {"ndarray": {"dtype": "|u1", "shape": [], "data": "07"}},
)
value(
    "an ndarray of nothing",
    pack(ext(2, [">f4", [0, 3], b""])),
    {"ndarray": {"dtype": ">f4", "shape": [0, 3], "data": ""}},
)
value("a callback", pack(ext(3, 7)), {"callback": 7})
value("a send-channel", pack(ext(4, 2)), {"send_channel": 2})
value("a receive-channel", pack(ext(5, 300)), {"receive_channel": 300})
value(
    "live values within others",
    pack({"f": ext(3, 1), "c": [ext(5, 4)]}),
    {"f": {"callback": 1}, "c": [{"receive_channel": 4}]},
)
bad("nothing at all", "value", b"")
bad("a value cut short", "value", b"\x92\x01")
bad("something after the value", "value", b"\x01\x01")
bad("text that is not UTF-8", "value", b"\xa2\xc3\x28")
bad("an unknown extension type", "value", pack(msgpack.ExtType(99, b"\x00")))
bad("a buffer without an attachment", "value", pack(ext(1, 0)))
bad("a buffer beyond the attachments", "value", pack(ext(1, 1)), attachments=(b"a",))
bad("an attachment that is named twice", "value", pack([ext(1, 0), ext(1, 0)]), attachments=(b"a",))
bad("an attachment that is not named", "value", pack(1), attachments=(b"a",))
bad("a buffer whose body is text", "value", pack(ext(1, "0")), attachments=(b"a",))
bad("a buffer whose body is negative", "value", pack(ext(1, -1)), attachments=(b"a",))
bad("a buffer without a body", "value", pack(msgpack.ExtType(1, b"")), attachments=(b"a",))
bad("an ndarray of objects", "value", pack(ext(2, ["|O", [1], bytes(8)])))
bad("an ndarray with too little data", "value", pack(ext(2, ["<i2", [2], b"\x00\x00"])))
bad("an ndarray with too much data", "value", pack(ext(2, ["<i2", [1], b"\x00\x00\x00\x00"])))
bad("an ndarray with a negative size", "value", pack(ext(2, ["<i2", [-1], b""])))
bad("an ndarray with 65 dimensions", "value", pack(ext(2, ["<i2", [1] * 65, b"\x00\x00"])))
bad("an ndarray of booleans that are neither", "value", pack(ext(2, ["|b1", [1], b"\x02"])))
bad("a callback whose body is nil", "value", pack(ext(3, None)))
value("json: a value", b'{"a":[1,2.5,"x",null,true]}', {"a": [1, 2.5, "x", None, True]}, codec="json")
value("json: white space", b" [ 1 ]\n", [1], codec="json", canonical=False)
bad("json: nothing at all", "value", b"", codec="json")
bad("json: something after the value", "value", b"1 2", codec="json")
bad("json: an attachment", "value", b"1", codec="json", attachments=(b"a",))
value("raw: bytes", b"abc", {"bytes": "616263"}, codec="raw")
value("raw: an attachment", b"", {"bytes": "616263"}, codec="raw", attachments=(b"abc",), canonical=False)
bad("raw: bytes and an attachment", "value", b"a", codec="raw", attachments=(b"b",))
bad("raw: two attachments", "value", b"", codec="raw", attachments=(b"a", b"b"))

group("arguments", "Arguments of calls: drpc.md, section 3.")
arguments("none", pack([[]]), [])
arguments("two by position", pack([[1, 2]]), [1, 2])
arguments("one by position, one by name", pack([[1], {"b": 2}]), [1], {"b": 2})
arguments("by name only", pack([[], {"a": 1, "b": 2}]), [], {"a": 1, "b": 2})
arguments("an empty map of names", pack([[1], {}]), [1], canonical=False)
arguments("a callback", pack([[ext(3, 1)]]), [{"callback": 1}])
arguments("a buffer", pack([[ext(1, 0)]]), [{"bytes": "616263"}], attachments=(b"abc",), canonical=False)
bad("no array", "arguments", pack({"a": 1}))
bad("nothing in the array", "arguments", pack([]))
bad("three things in the array", "arguments", pack([[], {}, 1]))
bad("positional arguments that are a map", "arguments", pack([{}]))
bad("named arguments that are an array", "arguments", pack([[], []]))
bad("a name that is a number", "arguments", pack([[], {1: 2}]))
arguments("json: by position and by name", b'[[1],{"b":"x"}]', [1], {"b": "x"}, codec="json")
arguments("raw: bytes", b"abc", [{"bytes": "616263"}], codec="raw")
