"""Arrays and scalars of numpy."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex._errors import ConfigurationError, DecodeError, EncodeError
from duplex.codec import CODECS, MsgpackCodec, foreign_types
from tests.codec.helpers import CODEC, LARGE, through
from tests.codec.test_values import Options

T = TypeVar("T", bound=np.generic)

DTYPES = [
    *("|b1", "|i1", "|u1", "<i2", ">i2", "<u4", ">u8", "<i8", "<f2", "<f4", ">f8", "<c8", ">c16"),
    *("<M8[ns]", "<M8[D]", "<m8[25s]", "|S5", "<U3", ">U2", np.dtype(np.longdouble).str),
]
SHAPES: list[tuple[int, ...]] = [
    (),
    (0,),
    (3,),
    (2, 3),
    (0, 5),
    (1, 1, 1, 1),
    (200, 300),
    (300, 0),
    (0, 100_000),
]


def make(dtype: str, shape: tuple[int, ...]) -> Any:
    size = math.prod(shape)
    numbers = np.arange(size) % 100
    if dtype == "|b1":
        numbers = numbers % 2
    return numbers.astype(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_dtype_and_shape_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = make(dtype, shape)
    for annotation in (Any, np.ndarray, npt.NDArray[Any]):
        back = through(array, annotation)
        assert back.dtype == array.dtype
        assert back.dtype.str == array.dtype.str
        assert back.shape == shape
        assert np.array_equal(back, array)
        assert not back.flags.writeable


def test_a_large_array_is_copied_neither_way() -> None:
    array = np.arange(8 << 20, dtype=np.float64).reshape(1 << 10, -1)  # 64 MiB
    payload, attachments = CODEC.encode({"image": array})
    assert len(payload) < 50
    (attachment,) = attachments
    assert isinstance(attachment, memoryview)
    assert (attachment.format, attachment.ndim, len(attachment)) == ("B", 1, array.nbytes)
    assert np.shares_memory(np.frombuffer(attachment, np.uint8), array)
    back = CODEC.decoder(dict[str, npt.NDArray[np.float64]])(payload, attachments, None)["image"]
    assert np.shares_memory(back, array)
    assert back.ctypes.data == array.ctypes.data
    assert back.shape == array.shape
    assert not back.flags.writeable
    # What a transport delivers is read-only too, though its memory could be written.
    received = memoryview(bytearray(attachment))
    back = CODEC.decoder(Any)(payload, [received], None)["image"]
    assert np.shares_memory(back, np.frombuffer(received, np.uint8))
    assert not back.flags.writeable
    # As an argument too.
    payload, attachments = CODEC.encode_arguments((1, array), {})
    (_, untyped), _ = CODEC.decode_arguments(payload, attachments)
    assert np.shares_memory(CODEC.convert(untyped, np.ndarray), array)


def test_small_arrays_stay_in_the_payload() -> None:
    small = np.zeros(LARGE - 1, np.uint8)
    payload, attachments = CODEC.encode([small, small])
    assert not attachments
    assert 2 * LARGE < len(payload) < 2 * LARGE + 50
    payload, attachments = CODEC.encode(np.zeros(LARGE, np.uint8))
    assert len(attachments) == 1
    payload, attachments = MsgpackCodec(max_attachments=1).encode([np.zeros(LARGE, np.uint8)] * 2)
    assert len(attachments) == 1
    assert len(payload) > LARGE
    assert [part.size for part in CODEC.decoder(list[np.ndarray])(payload, attachments, None)] == [LARGE] * 2


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60_000).reshape(200, 300).T,
        np.asfortranarray(np.arange(60_000).reshape(200, 300)),
        np.arange(60_000)[::3],
        np.arange(60_000)[::-1],
        np.broadcast_to(np.arange(300), (200, 300)),
        np.arange(60_000).reshape(-1, 1),
    ],
    ids=["transposed", "fortran", "strided", "reversed", "broadcast", "column"],
)
def test_all_layouts_arrive_in_c_order(array: Any) -> None:
    back = through(array)
    assert np.array_equal(back, array)
    assert back.flags.c_contiguous


def test_subclasses_arrive_as_plain_arrays(tmp_path: Any) -> None:
    mapped: Any = np.memmap(tmp_path / "numbers", np.int32, "w+", shape=(30_000,))
    mapped[:] = 7
    back = through(mapped)
    assert type(back) is np.ndarray
    assert (back == 7).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([object()]), "an array of dtype object cannot travel: "),
        (np.zeros(2, [("a", "i4")]), "an array of dtype .*'a'.* cannot travel: "),
        (np.zeros(2, [("a", object)]), "cannot travel"),
        (np.zeros(2, "V4"), "cannot travel"),
        (np.zeros((65_537, 0)), "an array of shape .65537, 0. is nothing but rows without elements"),
        (np.zeros((300, 300, 0, 2)), "nothing but rows"),
        (np.ma.masked_array([1, 2], [True, False]), "a masked array would lose its mask"),
    ],
)
def test_arrays_that_cannot_travel(array: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message + r".* - at `\$\.a\[0\]`$"):
        CODEC.encode({"a": [array]})


class Settings(msgspec.Struct):
    depth: int = 3


class Series(msgspec.Struct):
    name: str
    data: npt.NDArray[np.float32]
    maybe: np.ndarray | None = None


def test_arrays_in_fields() -> None:
    back = through({"name": "x", "data": np.ones(3, np.float32)}, Series)
    assert back.maybe is None
    assert back.data.tolist() == [1, 1, 1]
    back = through(Series("x", np.ones(30_000, np.float32), np.zeros(30_000)), Series)
    assert back.maybe.size == 30_000
    with pytest.raises(
        DecodeError, match=r"^Expected an array of `float32`, got one of `int64` - at `\$\.data`$"
    ):
        through({"name": "x", "data": np.ones(3, np.int64)}, Series)
    with pytest.raises(DecodeError, match=r"^Expected `ndarray`, got `list` - at `\$\.data`$"):
        through({"name": "x", "data": [1, 2]}, Series)


F8, F4, I8 = np.zeros(2), np.zeros((2, 2), np.float32), np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("annotation", "fits", "not_fit"),
    [
        (np.ndarray, [F8, F4, I8], [1, None, "x", [1]]),
        (npt.NDArray, [F8, F4, I8], [1.0]),
        (npt.NDArray[Any], [F8, F4, I8], [1.0]),
        (npt.NDArray[np.float64], [F8, F8.astype(">f8")], [F4, I8]),
        (npt.NDArray[np.floating[Any]], [F8, F4], [I8]),
        (npt.NDArray[np.number], [F8, I8], [np.zeros(2, bool)]),
        (npt.NDArray[np.float64 | np.int64], [F8, I8], [F4]),
        (npt.NDArray[T], [F8, I8], [[]]),  # type: ignore[valid-type]
        (np.ndarray[tuple[int, int], np.dtype[np.float32]], [F4], [F4[0], F8]),
        (np.ndarray[tuple[int, ...], np.dtype[Any]], [F4, F8], [{}]),
        (np.ndarray[Any, Any], [F4, F8], [{}]),
    ],
)
def test_annotations(annotation: Any, fits: list[Any], not_fit: list[Any]) -> None:
    for array in fits:
        assert np.array_equal(through(array, annotation), array)
        assert np.array_equal(CODEC.convert(array, annotation), array)
    for value in not_fit:
        with pytest.raises(DecodeError, match=r"^Expected .* - at `\$\[0\]`$"):
            through([value], list[annotation])


@pytest.mark.parametrize(
    "annotation",
    [dict, dict[Any, Any], dict[str, int], Series, Settings, Options, list[int], set[Any], int, str],
)
def test_an_array_is_nothing_else(annotation: Any) -> None:
    for array in (F8, np.array(["a"]), np.zeros(0), F4):
        with pytest.raises(DecodeError, match=r"^Expected `.*`, got `.*ndarray`$"):
            through(array, annotation)


def test_an_attribute_error_of_a_user() -> None:
    class Wrong(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            self.nonsense  # type: ignore[attr-defined]

    class Empty(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            np.zeros(self.number).nonsense  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="nonsense"):
        CODEC.convert({"number": 1}, Wrong)
    # It looks like msgspec's own, where that takes an array for an object.
    with pytest.raises(DecodeError, match="Expected `object`, got `ndarray`"):
        CODEC.convert({"number": 1}, Empty)


def test_messages_of_dtype_and_dimensions() -> None:
    with pytest.raises(
        DecodeError, match=r"^Expected an array of `float64` or `int64`, got one of `float32`$"
    ):
        through(F4, npt.NDArray[np.float64 | np.int64])
    with pytest.raises(DecodeError, match=r"^Expected an array of 2 dimensions, got one of 1$"):
        through(F8, np.ndarray[tuple[int, int], np.dtype[np.float64]])


# -- scalars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (np.int64(-3), -3),
        (np.uint8(200), 200),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.float16(1.5), 1.5),
        (np.longdouble(1.5), 1.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
    ],
)
def test_scalars_travel_as_plain_values(scalar: Any, plain: Any) -> None:
    for value in ([scalar], {"x": scalar}, [scalar, np.zeros(1)]):
        back = through(value)
        part = back["x"] if isinstance(back, dict) else back[0]
        assert (part, type(part)) == (plain, type(plain))
    assert CODECS["json"].encode([scalar]) == CODECS["json"].encode([plain])


def test_numbers_that_are_none() -> None:
    assert through(np.longdouble("inf")) == float("inf")
    assert math.isnan(through(np.longdouble("nan")))


def test_scalars_as_keys() -> None:
    assert through({np.int64(1): "x"}) == {1: "x"}


@pytest.mark.parametrize(
    "scalar", [np.datetime64("2024-01-01"), np.timedelta64(3, "s"), np.complex128(1j), np.longdouble(1) / 3]
)
def test_scalars_without_a_plain_form(scalar: Any) -> None:
    with pytest.raises(EncodeError, match=rf"values of type {type(scalar).__name__} cannot travel"):
        CODEC.encode([scalar])


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(np.int8, 5), (np.float32, 1.5), (np.float64, 3), (np.bool_, True), (np.uint64, 2**64 - 1)],
)
def test_scalar_annotations(annotation: Any, value: Any) -> None:
    for codec in (CODEC, CODECS["json"]):
        payload, _ = codec.encode([value])
        (back,) = codec.decoder(list[annotation])(payload, (), None)
        assert (type(back), back) == (annotation, value)
        assert type(codec.convert(value, annotation)) is annotation


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (np.int8, 300, "Expected `int8`: Python integer 300 out of bounds for int8"),
        (np.float32, 1e300, "Expected `float32`: overflow encountered in cast"),
        (np.int64, 1.5, "Expected `int64`, got `float`"),
        (np.int64, True, "Expected `int64`, got `bool`"),
        (np.float64, "1", "Expected `float64`, got `str`"),
        (np.float64, False, "Expected `float64`, got `bool`"),
        (np.bool_, 1, "Expected `bool`, got `int`"),
        (np.datetime64, 1, "Expected `datetime64`, got `int`"),
        (np.timedelta64, 1, "Expected `timedelta64`, got `int`"),
    ],
)
def test_values_that_are_no_such_scalar(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        through(value, annotation)
    assert str(caught.value) == message


def test_numpy_types_are_not_foreign() -> None:
    assert foreign_types(dict[str, Series | None]) == ()
    assert foreign_types(list[np.int64]) == ()


# -- hostile bytes -----------------------------------------------------------------------------------------


def array_payload(*body: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(2, msgspec.msgpack.encode(body)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ((), "extension type 2 holds no array: Expected `array` of at least length 3, got "),
        (("<f8", [1]), "extension type 2 holds no array: Expected `array` of at least length 3, got "),
        (("<f8", [1], b"12345678", "C"), "Expected `array` of at most length 3"),
        ((1, [1], b"12345678"), "Expected `str`, got `int` - at `$[0]`"),
        (("<f8", 1, b"12345678"), "Expected `array`, got `int` - at `$[1]`"),
        (("<f8", ["1"], b"12345678"), "Expected `int`, got `str` - at `$[1][0]`"),
        (("<f8", [True], b"12345678"), "Expected `int`, got `bool`"),
        (("<f8", [-1], b"12345678"), "Expected `int` >= 0"),
        (("<f8", [1] * 65, b"12345678"), "Expected `array` of length <= 64"),
        (("<f8", [1] * 33, b"1234567"), "no array of '<f8' and shape [1, 1"),
        (("<f8", [1], None), "Expected `int | bytes`, got `None`"),
        (("<f8", [1], -1), "Expected `int` >= 0"),
        (("<f8", [1], 0), "the payload names attachment 0, but 0 came"),
        (("<f8", [1], b"1234567"), "no array of '<f8' and shape"),
        (("<f8", [1], b"123456789"), "9 bytes are not an array of '<f8' and shape [1]"),
        (("<f8", [], b"123456789"), "9 bytes are not an array of '<f8' and shape []"),
        (("<f8", [0], b"12345678"), "8 bytes are not an array"),
        (("<f8", [2**62, 2**62], b""), "no array of '<f8' and shape"),
        (("<f8", [0, 2**62], b""), "no array of '<f8' and shape"),
        (("<f8", [2**63, 0], b""), "no array of '<f8' and shape"),
        (("<f8", [2**64 - 1], b""), "no array of '<f8' and shape"),
        (("|u1", [2**40], b"x"), "no array of '|u1' and shape"),
        (("<f8", [65_537, 0], b""), "an array of shape [65537, 0] is nothing but rows without elements"),
        (("|u1", [256, 257, 0], b""), "nothing but rows without elements"),
        (("|S1000000", [0], b""), "no array can have the dtype '|S1000000'"),
        (("|O", [1], b"12345678"), "no array can have the dtype '|O'"),
        (("O", [1], b"12345678"), "no array can have the dtype 'O'"),
        (("i4,O", [1], b"12345678"), "no array can have the dtype 'i4,O'"),
        (("(2,3)f4", [1], b"12345678"), "no array can have the dtype"),
        (("|V8", [1], b"12345678"), "no array can have the dtype"),
        (("|S0", [0], b""), "no array can have the dtype"),
        (("float64", [1], b"12345678"), "no array can have the dtype"),
        (("", [1], b"12345678"), "no array can have the dtype"),
        (("<f8" + " " * 14, [1], b"12345678"), "Expected `str` of length <= 16"),
        (("<M8[what]", [1], b"12345678"), "no array of '<M8[what]' and shape"),
        (("|S99999999999", [0], b""), "no array can have the dtype '|S99999999999'"),
        (("|b1", [3], b"\x00\x01\x02"), "an array of booleans holds something other than 0 and 1"),
        (("<U1", [1], b"\xff\xff\xff\x7f"), "an array of strings holds something other than Unicode"),
        ((">U1", [1], b"\x00\x11\x00\x00"), "an array of strings holds something other than Unicode"),
    ],
)
def test_bad_arrays(body: Any, message: str) -> None:
    for annotation in (Any, np.ndarray, Series, int):
        with pytest.raises(DecodeError) as caught:
            CODEC.decoder(annotation)(array_payload(*body), (), None)
        assert message in str(caught.value)


def test_an_array_that_is_nested_to_death() -> None:
    bomb = b"\x91" * 60_000
    with pytest.raises(DecodeError, match=r"^extension type 2 holds no array: "):
        CODEC.decoder(Any)(msgspec.msgpack.encode(msgspec.msgpack.Ext(2, bomb)), (), None)


def test_an_attachment_of_the_wrong_size() -> None:
    payload, (attachment,) = CODEC.encode(np.zeros(10_000))
    for wrong in (b"", attachment[:-1], bytes(attachment) + b"x"):
        with pytest.raises(DecodeError):
            CODEC.decoder(Any)(payload, [wrong], None)
    twice = msgspec.msgpack.encode([msgspec.msgpack.Ext(2, msgspec.msgpack.encode(("|u1", [4], 0)))] * 2)
    with pytest.raises(DecodeError, match=r"names attachment 0 twice"):
        CODEC.decoder(Any)(twice, [b"1234"], None)


_dtype_texts = st.sampled_from([*DTYPES, "<U1", "O", "i4,i4", "|V3"]) | st.text(
    "<>|=?bifcmMSUVO0123456789[]sn,", max_size=18
)
_bodies = st.tuples(
    _dtype_texts,
    st.lists(st.integers(0, 9) | st.integers(-1, 2**64 - 1), max_size=5),
    st.binary(max_size=64) | st.integers(-1, 3),
)


@given(_bodies, st.lists(st.binary(max_size=64), max_size=2))
def test_whatever_the_body_only_decode_errors(body: Any, attachments: list[bytes]) -> None:
    payload = array_payload(*body)
    for annotation in (Any, npt.NDArray[np.float64], list[np.ndarray], np.float64):
        try:
            CODEC.decoder(annotation)(payload, attachments, None)
        except DecodeError:
            pass
    try:
        array = CODEC.decoder(Any)(payload, attachments, None)
    except DecodeError:
        return
    assert array.nbytes <= 64
    array.tolist()


@pytest.mark.parametrize("annotation", [np.ndarray | int, np.ndarray | bytes, list[np.ndarray | list[int]]])
def test_unions_that_msgspec_cannot_tell_apart(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot travel: Type unions"):
        CODEC.decoder(annotation)
