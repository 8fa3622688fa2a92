"""Large buffers travel beside the payload, and nobody copies them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import msgspec
import pytest

from duplex._errors import DecodeError
from duplex.codec import Buffer, LiveKind, MsgpackCodec
from duplex.codec._buffers import may_hold_large
from tests.codec.helpers import CODEC, LARGE, FakeLive, through

BIG = bytes(range(256)) * (LARGE // 256)
SMALL = BIG[:-1]


def address(buffer: Buffer) -> int:
    """Where a buffer lies in memory."""
    numpy = pytest.importorskip("numpy")
    return int(numpy.frombuffer(buffer, "u1").__array_interface__["data"][0])


def test_the_limit() -> None:
    payload, attachments = CODEC.encode(SMALL)
    assert (len(payload), attachments) == (len(SMALL) + 3, ())
    payload, attachments = CODEC.encode(BIG)
    assert payload == b"\xd4\x01\x00"
    assert attachments == [BIG]


def test_bytes_are_passed_as_they_are() -> None:
    _, attachments = CODEC.encode(BIG)
    assert attachments[0] is BIG
    assert through(BIG) is BIG
    assert through(BIG, bytes) is BIG


@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data))])
def test_other_buffers_are_passed_as_views(make: Callable[[bytes], Any]) -> None:
    value = make(BIG)
    _, (attachment,) = CODEC.encode(value)
    assert isinstance(attachment, memoryview)
    assert address(attachment) == address(value)
    back = through(value, memoryview)
    assert isinstance(back, memoryview)
    assert address(back) == address(value)


def test_a_bytearray_on_its_way_cannot_be_resized() -> None:
    value = bytearray(BIG)
    _, (_attachment,) = CODEC.encode(value)
    with pytest.raises(BufferError):
        value.append(0)


def test_views_of_other_formats_become_views_of_bytes() -> None:
    numbers = memoryview(bytearray(BIG)).cast("d")
    _, (attachment,) = CODEC.encode(numbers)
    assert (attachment.format, attachment.nbytes) == ("B", len(attachment))  # type: ignore[union-attr]
    assert attachment == BIG
    _, (attachment,) = CODEC.encode(memoryview(BIG).cast("B", (256, 256)))
    assert len(attachment) == LARGE


def test_strided_views_are_copied() -> None:
    assert through(memoryview(b"abcdef")[::2]) == b"ace"
    assert through([memoryview(b"abcdef")[::2]]) == [b"ace"]
    strided = memoryview(BIG + BIG)[::2]
    payload, (attachment,) = CODEC.encode({"x": strided})
    assert len(payload) < 10
    assert attachment == strided.tobytes()
    assert through(memoryview(b"")[::2]) == b""


class Record(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    some_data: bytes
    note: str = ""

    def __post_init__(self) -> None:
        assert len(self.some_data) >= 0, "never called with a stand-in"


class Row(msgspec.Struct, array_like=True, tag="row"):
    number: int
    data: bytes


class Pair(NamedTuple):
    left: bytes
    right: int


@dataclass(frozen=True)
class Plain:
    data: bytes
    other: Any = None

    def __post_init__(self) -> None:
        assert isinstance(self.data, bytes)


@dataclass(slots=True)
class Slotted:
    data: bytes
    other: Any = 1


@attrs.frozen
class Frozen:
    data: bytes
    other: Any = 1


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([1, BIG, "x"], list[Any]),
        ({"a": 1, "b": BIG, "c": BIG}, dict[str, Any]),
        ((BIG, 2), tuple[bytes, int]),
        ({BIG}, set[bytes]),
        (frozenset({BIG, b""}), frozenset[bytes]),
        (Pair(BIG, 1), Pair),
        (Record(BIG), Record),
        (Row(1, BIG), Row),
        (Plain(BIG), Plain),
        (Slotted(BIG), Slotted),
        (Frozen(BIG), Frozen),
        (Frozen(BIG, BIG), Frozen),
        ({"deep": [{"er": (Plain(BIG, {1: b"x"}),)}]}, dict[str, list[dict[str, tuple[Plain]]]]),
    ],
    ids=lambda part: str(type(part)),
)
def test_buffers_in_containers(value: Any, annotation: Any) -> None:
    payload, attachments = CODEC.encode(value)
    assert len(payload) < 100
    assert all(attachment is BIG for attachment in attachments)
    assert CODEC.decoder(annotation)(payload, attachments, None) == value
    # Without attachments, the same form.
    inline, none = MsgpackCodec(max_attachments=0).encode(value)
    assert len(inline) > LARGE
    assert not none
    plain = CODEC.decoder(Any)
    assert plain(inline, (), None) == plain(payload, attachments, None)


def test_the_value_itself_is_left_alone() -> None:
    value = {"list": [BIG, 1], "row": Row(1, BIG), "plain": Plain(BIG)}
    before = {"list": [BIG, 1], "row": Row(1, BIG), "plain": Plain(BIG)}
    CODEC.encode(value)
    assert value == before
    assert value["row"].data is BIG  # type: ignore[attr-defined]


def test_a_field_that_was_never_set() -> None:
    value = Slotted(BIG)
    del value.other
    assert through(value) == {"data": BIG}


@attrs.define(slots=False)
class Partial:
    data: bytes
    _cache: bytes = b""


class Heir(Partial):
    """No attrs class by itself."""


def test_private_fields_are_left_alone() -> None:
    value = Partial(b"x", BIG)
    value.extra = BIG  # type: ignore[attr-defined]
    value.more = 1  # type: ignore[attr-defined]
    for data in (b"x", BIG):
        value.data = data
        plain, _ = MsgpackCodec(max_attachments=0).encode(value)
        assert (
            through(value) == CODEC.decoder(Any)(plain, (), None) == {"data": data, "extra": BIG, "more": 1}
        )
    exported = []

    class Exporting(FakeLive):
        def export(self, value: Any) -> Any:
            exported.append(value)
            return LiveKind.CALLBACK, 1

    heir = Heir(BIG)
    CODEC.encode([heir, BIG], Exporting())
    assert exported == [heir]
    assert exported[0] is heir


def test_keys_stay_in_the_payload() -> None:
    payload, attachments = CODEC.encode({BIG: 1})
    assert len(payload) > LARGE
    assert not attachments
    assert CODEC.decoder(dict[bytes, int])(payload, attachments, None) == {BIG: 1}


def test_at_most_so_many_attachments() -> None:
    codec = MsgpackCodec(max_attachments=2)
    value = [BIG + bytes([number]) for number in range(4)]
    payload, attachments = codec.encode(value)
    assert len(attachments) == 2
    assert len(payload) > 2 * LARGE
    assert codec.decoder(Any)(payload, attachments, None) == value
    assert len(CODEC.encode([BIG] * 100)[1]) == 64


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_more_attachments_than_the_receiver_takes(most: int) -> None:
    numpy = pytest.importorskip("numpy")
    value = [BIG, numpy.frombuffer(BIG, "<i4"), BIG]
    payload, attachments = CODEC.encode(value, FakeLive(max_attachments=most))
    assert len(attachments) == most
    back = CODEC.decoder(Any)(payload, attachments, None)
    assert back[0] == back[2] == BIG
    assert back[1].tobytes() == BIG
    payload, attachments = CODEC.encode_arguments(value, {"more": BIG}, FakeLive(max_attachments=most))
    assert len(attachments) == most


def test_the_codecs_own_limit_holds_whatever_the_receiver_takes() -> None:
    assert len(CODEC.encode([BIG] * 100, FakeLive(max_attachments=1000))[1]) == 64


@pytest.mark.parametrize("annotation", [Any, object, bytes, list[bytes], dict[str, Any]])
def test_large_buffers_become_bytes(annotation: Any) -> None:
    value = {bytes: BIG, list[bytes]: [BIG]}.get(annotation, {"x": BIG})
    payload, attachments = CODEC.encode(value)
    for form in (bytes, bytearray, lambda data: memoryview(bytearray(data))):
        received = [form(attachment) for attachment in attachments]
        back = CODEC.decoder(annotation)(payload, received, None)
        assert back == value
        inner = next(iter(back.values())) if isinstance(back, dict) else back
        assert type(inner[0] if isinstance(inner, list) else inner) is bytes


def test_a_memoryview_is_never_copied_and_read_only() -> None:
    class Wanted(msgspec.Struct):
        name: str
        view: memoryview
        copied: bytes
        own: bytearray

    payload, attachments = CODEC.encode({"name": "x", "view": BIG, "copied": BIG, "own": BIG})
    received = [memoryview(bytearray(attachment)) for attachment in attachments]
    back = CODEC.decoder(Wanted)(payload, received, None)
    assert back.view.readonly
    assert address(back.view) in [address(part) for part in received]
    assert (type(back.copied), back.copied) == (bytes, BIG)
    assert (type(back.own), back.own) == (bytearray, BIG)
    assert address(back.own) not in [address(part) for part in received]


def test_beside_any_a_memoryview_is_of_a_copy() -> None:
    payload, attachments = CODEC.encode([BIG, BIG])
    received = [memoryview(bytearray(attachment)) for attachment in attachments]
    back = CODEC.decoder(tuple[memoryview, Any])(payload, received, None)
    assert [type(part) for part in back] == [memoryview, bytes]
    assert back[0] == back[1] == BIG


@pytest.mark.parametrize(
    ("payload", "count", "message"),
    [
        (b"\x01", 1, "the payload has no place for 1 of 1 attachments"),
        (b"\xd4\x01\x00", 2, "the payload has no place for 1 of 2 attachments"),
        (b"\xd4\x01\x00", 0, "the payload names attachment 0, but 0 came"),
        (b"\xd4\x01\x02", 2, "the payload names attachment 2, but 2 came"),
        (b"\x92\xd4\x01\x00\xd4\x01\x00", 1, "the payload names attachment 0 twice"),
        (b"\xd4\x01\xff", 1, "extension type 1 holds no number: Expected `int` >= 0"),
        (b"\xd4\x01\xa0", 1, "extension type 1 holds no number: Expected `int`, got `str`"),
        (b"\xc7\x00\x01", 1, "extension type 1 holds no number: Input data was truncated"),
        (b"\xd5\x01\x00\x00", 1, "extension type 1 holds no number: MessagePack data is malformed: .*"),
        (b"\xd4\x07\x00", 0, "unknown extension type 7"),
        (b"\xd4\xfb\x00", 0, "unknown extension type -5"),
        (b"\xd4\x00\x00", 0, "unknown extension type 0"),
    ],
)
def test_bad_references(payload: bytes, count: int, message: str) -> None:
    for annotation in (Any, bytes, list[bytes], memoryview):
        with pytest.raises(DecodeError, match=f"^{message}$"):
            CODEC.decoder(annotation)(payload, [b"x"] * count, None)


def test_an_extension_where_something_else_is_expected() -> None:
    payload, attachments = CODEC.encode(BIG)
    with pytest.raises(DecodeError, match=r"^Expected `int`, got `bytes`$"):
        CODEC.decoder(int)(payload, attachments, None)


# -- deciding whether to look for buffers -------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, 100_000, 1 << 24])
def test_a_large_buffer_is_always_found(before: int) -> None:
    payload = msgspec.msgpack.encode(["x" * before, BIG, b"x"])
    assert may_hold_large(payload)
    assert not may_hold_large(msgspec.msgpack.encode(["x" * before, SMALL, b"x"]))


def test_a_very_large_buffer_is_found() -> None:
    payload = msgspec.msgpack.encode([b"\xc6" * ((1 << 24) + 5)])
    assert may_hold_large(payload)


def test_what_looks_like_headers() -> None:
    # ơ is c6 a1, and ư is c6 b0, in UTF-8.
    assert not may_hold_large(msgspec.msgpack.encode("ơư" * 100_000))
    assert not may_hold_large(b"\xc6\x00\x00\xff\xff" * 20_000)
    assert may_hold_large(b"\xc6\x00\xc6\x00\x01\x00\x00" + bytes(65_536))
    assert not may_hold_large(b"\xc6\x00\xc6\x00\x01\x00\x00" + bytes(65_535))
    # Too many chance hits, far too long to be true: the walk decides.
    far_too_long = b"\xc6\x00\xff\xff\xff"
    assert not may_hold_large(far_too_long * 1000)
    assert may_hold_large(far_too_long * 1001)
    value = [0xC600] * 100_000
    payload, attachments = CODEC.encode(value)
    assert not attachments
    assert CODEC.decoder(Any)(payload, (), None) == value


def test_plain_data_of_any_size_is_encoded_once() -> None:
    rows = [{"id": number, "name": f"row {number}"} for number in range(5000)]
    payload, attachments = CODEC.encode(rows)
    assert len(payload) > LARGE
    assert not may_hold_large(payload)
    assert (payload, attachments) == (msgspec.msgpack.encode(rows), ())


def test_after_a_false_alarm_the_payload_is_the_same() -> None:
    value = {"numbers": list(itertools.repeat(0xC600, 50_000)), "row": Row(1, b"x"), "set": {1}, "none": None}
    assert may_hold_large(msgspec.msgpack.encode(value))
    assert CODEC.encode(value) == (msgspec.msgpack.encode(value), [])
