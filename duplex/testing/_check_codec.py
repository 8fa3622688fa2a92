"""A conformance suite for codecs: what the engine and the service layer rely on, tried out.

::

    def test_my_codec() -> None:
        check_codec(MyCodec(), arrays=False, live=False)
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import msgspec

from duplex._errors import ConfigurationError, DecodeError, EncodeError
from duplex.codec import Buffer, Codec, LiveKind

#: Around the sizes at which forms change; the last two travel as attachments in Duplex' own codecs.
_SIZES: Final = (0, 1, 31, 32, 255, 256, 65_535, 65_536, 300_000)


def check_codec(codec: Codec, *, structured: bool = True, arrays: bool = True, live: bool = True) -> None:
    """Check that a codec keeps the contract of :class:`duplex.codec.Codec`.

    Args:
        codec: what to check.
        structured: pass ``False`` for a codec that carries nothing but bytes.
        arrays: pass ``False`` for a codec that carries no numpy arrays. Without numpy it is not asked to.
        live: pass ``False`` for a codec that carries no callbacks and channels.

    Raises:
        AssertionError: with the name of the check and what went otherwise than expected.
    """
    checks = [_check_name, _check_buffers, _check_one_buffer_argument, _check_few_attachments]
    checks += [_check_decoders, _check_hostile_bytes]
    if structured:
        checks += [_check_values, _check_types, _check_arguments, _check_nested_buffers, _check_refusals]
        checks += [_check_hostile_payloads, _check_threads]
    if structured and arrays and importlib.util.find_spec("numpy") is not None:
        checks += [_check_arrays]
    if structured and live:
        checks += [_check_live_values]
    for check in checks:
        name = check.__name__.removeprefix("_check_").replace("_", " ")
        try:
            check(codec)
        except AssertionError as error:
            raise AssertionError(f"{name} with the codec {codec.name!r}: {error}") from None
        except (EncodeError, DecodeError, ConfigurationError) as error:
            raise AssertionError(
                f"{name} with the codec {codec.name!r}: unexpected {type(error).__name__}: {error}"
            ) from error


# -- what is sent ------------------------------------------------------------------------------------------


@final
@dataclass
class _Item:
    name: str
    price: float
    tags: list[str] = field(default_factory=list)


@final
class _Order(msgspec.Struct):
    """A little of everything that types have to bring back."""

    number: int
    items: list[_Item]
    placed: dt.datetime
    notes: dict[str, str | None]
    colours: set[str]
    data: bytes = b""


_ORDER: Final = _Order(
    number=2**63 - 1,
    items=[_Item("pencil", 0.5, ["école", "✏"]), _Item("", -1e300)],
    placed=dt.datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=dt.UTC),
    notes={"gift": None, "card": "many happy\0returns"},
    colours={"red", "blue"},
    data=bytes(range(256)),
)

_PLAIN: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    1.5,
    "",
    "text, naïve and 🙂",
    [],
    [1, [2, [3, None]]],
    {},
    {"a": {"b": [1.25, "c"]}, "": None},
)


# -- checks ------------------------------------------------------------------------------------------------


def _check_name(codec: Codec) -> None:
    name: object = codec.name
    _expect(isinstance(name, str) and name.isidentifier(), f"the name is {name!r}")


def _check_values(codec: Codec) -> None:
    for value in _PLAIN:
        back = _through(codec, value, Any)
        _expect(back == value and type(back) is type(value), f"{value!r} came back as {back!r}")


def _check_types(codec: Codec) -> None:
    order = _through(codec, _ORDER, _Order)
    _expect(order == _ORDER, f"{_ORDER!r} came back as {order!r}")
    order = codec.convert(_through(codec, _ORDER, Any), _Order)
    _expect(order == _ORDER, f"decoded and then converted, {_ORDER!r} came back as {order!r}")
    for annotation, value, path in (
        (_Order, {"number": 1, "items": [{"name": "x", "price": "?"}]}, "$.items[0].price"),
        (list[dict[str, int]], [{"a": 1}, {"a": "1"}], "$[1][...]"),
    ):
        payload, attachments = codec.encode(value)
        plain = _through(codec, value, Any)
        message = _refusal(DecodeError, codec.decoder(annotation), payload, attachments, None)
        _expect(path in message, f"the decoder's message does not name {path}: {message}")
        message = _refusal(DecodeError, codec.convert, plain, annotation)
        _expect(path in message, f"the message of convert does not name {path}: {message}")


def _check_arguments(codec: Codec) -> None:
    for positional, keyword in (((), {}), ((1, "x"), {}), ((), {"a": 1}), ([[1], None], {"b": {}, "c": 2.5})):
        payload, attachments = codec.encode_arguments(positional, keyword)
        back = codec.decode_arguments(payload, attachments)
        _expect(back == (list(positional), keyword), f"{positional}, {keyword} came back as {back}")
        bare = _through(codec, [positional, keyword] if keyword else [positional], Any)
        _expect(
            codec.decoder(Any)(payload, attachments, None) == bare,
            "arguments are not encoded as [positional, keyword]",
        )
    wrong: tuple[Any, ...] = (None, [], {}, [1], [{}], [[], []], [[], {}, 1], [{}, []], "[]")
    for value in wrong:
        payload, attachments = codec.encode(value)
        _refusal(DecodeError, codec.decode_arguments, payload, attachments)


def _check_buffers(codec: Codec) -> None:
    for size in _SIZES:
        data = random.Random(size).randbytes(size)
        for value in (data, bytearray(data), memoryview(data), memoryview(bytearray(data))):
            payload, attachments = codec.encode(value)
            _check_form(payload, attachments)
            for received in _transports(attachments):
                for annotation in (bytes, bytearray, memoryview):
                    back = codec.decoder(annotation)(payload, received, None)
                    _expect(
                        type(back) is annotation and back == data,
                        f"{size} bytes in a {type(value).__name__} did not come back as {annotation.__name__}",
                    )


def _check_one_buffer_argument(codec: Codec) -> None:
    for size in _SIZES:
        data = random.Random(size).randbytes(size)
        payload, attachments = codec.encode_arguments((data,), {})
        _check_form(payload, attachments)
        for received in _transports(attachments):
            for views in (False, True):
                positional, keyword = codec.decode_arguments(payload, received, views=views)
                _expect(len(positional) == 1 and keyword == {}, f"one argument came back as {positional}")
                for annotation in (bytes, memoryview):
                    back = codec.convert(positional[0], annotation)
                    _expect(type(back) is annotation and back == data, f"{size} bytes did not come back")


def _check_few_attachments(codec: Codec) -> None:
    data = random.Random(0).randbytes(_SIZES[-1])
    for most in (0, 1):
        live = _Live(max_attachments=most)
        _expect(
            len(codec.encode(data, live)[1]) <= most,
            f"over {most} attachments, and the receiver takes no more",
        )
        payload, attachments = codec.encode_arguments((data,), {}, live)
        _expect(len(attachments) <= most, f"over {most} attachments of arguments")
        back = codec.convert(codec.decode_arguments(payload, attachments)[0][0], bytes)
        _expect(back == data, f"{len(data)} bytes did not come back from {most} attachments")


def _check_nested_buffers(codec: Codec) -> None:
    data = [random.Random(size).randbytes(size) for size in _SIZES]
    value = {"list": data, "one": bytearray(data[-1]), "set": {data[-1]}}
    payload, attachments = codec.encode(value)
    _check_form(payload, attachments)
    wanted = msgspec.defstruct(
        "Wanted", [("list", list[bytes]), ("one", memoryview), ("set", frozenset[bytes])], gc=False
    )
    for received in _transports(attachments):
        back: Any = codec.decoder(wanted)(payload, received, None)
        _expect(back.list == data, "buffers in a list did not come back")
        _expect(back.one == data[-1], "a buffer in a dict did not come back")
        _expect(back.set == {data[-1]}, "a buffer in a set did not come back")
        as_any = codec.decoder(Any)(payload, received, None)
        kinds = {type(part) for part in as_any["list"]}
        _expect(len(kinds) == 1, f"buffers come back as {kinds}, depending on their size")


def _check_decoders(codec: Codec) -> None:
    for annotation in (bytes, memoryview, Any):
        same = codec.decoder(annotation) is codec.decoder(annotation)
        _expect(same, f"two calls of decoder({annotation}) give two decoders")


def _check_refusals(codec: Codec) -> None:
    for value in (object(), [object()], {"deep": [{"in": object()}]}, len, range(3)):
        message = _refusal(EncodeError, codec.encode, value)
        bad = value if not isinstance(value, (list, dict)) else object()
        _expect(type(bad).__name__ in message, f"the message does not name the type: {message}")
    endless: list[Any] = []
    endless.append(endless)
    _refusal(EncodeError, codec.encode, endless)
    _refusal(EncodeError, codec.encode_arguments, (endless,), {})


def _check_hostile_bytes(codec: Codec) -> None:
    chance = random.Random(1)
    for length in (0, 1, 2, 3, 5, 8, 13, 100):
        for _ in range(50):
            _survive(codec, chance.randbytes(length), (), (Any, bytes, memoryview))
    for attachments in ([b""], [b"x"], [b"x" * 65_536, b""]):
        for payload in (b"", b"\0", codec.encode(b"x")[0]):
            _survive(codec, payload, attachments, (Any, bytes))


def _check_hostile_payloads(codec: Codec) -> None:
    chance = random.Random(2)
    annotations = (Any, _Order, list[int], dict[str, Any], dt.datetime, str, bytes, int | str)
    big = {"x": bytes(100_000), "y": [bytes(65_536)]}
    for value in (*_PLAIN, _ORDER, big):
        payload, attachments = codec.encode(value)
        _refusal(DecodeError, codec.decoder(Any), payload + b"\x01", attachments, None)
        # The beginning of a number may be a number, in text.
        for cut in range(min(len(payload), 64) if isinstance(value, (str, list, dict)) else 0):
            _refusal(DecodeError, codec.decoder(type(value)), payload[:cut], attachments, None)
        for _ in range(100):
            changed = bytearray(payload[:4096])
            changed[chance.randrange(len(changed))] = chance.randrange(256)
            _survive(codec, bytes(changed), attachments, annotations)
        if attachments:
            _refusal(DecodeError, codec.decoder(Any), payload, attachments[:-1], None)
            _refusal(DecodeError, codec.decoder(Any), payload, (), None)
        _refusal(DecodeError, codec.decoder(Any), payload, [*attachments, b"one more"], None)


def _check_threads(codec: Codec) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                _expect(_through(codec, _ORDER, _Order) == _ORDER, "threads disturb one another")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _expect(not failures, f"in one of four threads: {failures[:1]}")


def _check_arrays(codec: Codec) -> None:
    import numpy as np

    for size in (0, 1, 3, 100_000):
        for dtype in ("<f8", ">f4", "|b1", "<i8", "|u1", "<c16", "<M8[ns]", "<U3"):
            array = np.zeros(size, dtype)
            back = _through(codec, {"array": array}, dict[str, np.ndarray])["array"]
            _expect(
                back.dtype == array.dtype and back.shape == array.shape, f"{dtype} came back as {back.dtype}"
            )
            _expect(bool((back == array).all()), f"an array of {dtype} came back changed")
    arrays: list[Any] = [
        np.arange(24).reshape(2, 3, 4).T,
        np.arange(200_000)[::2],
        np.array(5.0),
        np.zeros((0, 3)),
    ]
    for shaped in arrays:
        back = _through(codec, shaped, np.ndarray)
        _expect(back.shape == shaped.shape and bool((back == shaped).all()), "an array came back changed")
    for refused in (np.array([object()]), np.zeros(2, [("a", "i4")])):
        _refusal(EncodeError, codec.encode, refused)
    scalars = _through(codec, [np.int64(5), np.float32(1.5), np.bool_(True)], Any)
    _expect(scalars == [5, 1.5, True], f"scalars of numpy came back as {scalars}")


@final
class _Live:
    """Exports instances of ``_Origin``, and imports what was exported."""

    def __init__(self, max_attachments: int = 64) -> None:
        self.max_attachments = max_attachments
        self.max_elements = 65_536
        self.exported: list[Any] = []
        self.adapted: list[Any] = []

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        if not isinstance(value, _Origin):
            return None
        self.exported.append(value)
        return value.kind, len(self.exported)

    def import_(self, kind: LiveKind, number: int) -> Any:
        return _Remote(kind, self.exported[number - 1])

    def adapt(self, value: Any, annotation: Any) -> Any:
        self.adapted.append(annotation)
        if not isinstance(value, _Remote):
            raise DecodeError(f"expected a remote, got a {type(value).__name__}")
        return value


@final
class _Origin:
    """No dataclass, which would travel by itself."""

    def __init__(self, kind: LiveKind) -> None:
        self.kind = kind


@final
class _Remote:
    def __init__(self, kind: LiveKind, origin: _Origin) -> None:
        self.kind = kind
        self.origin = origin


def _check_live_values(codec: Codec) -> None:
    for kind in LiveKind:
        origin = _Origin(kind)
        live = _Live()
        payload, attachments = codec.encode_arguments(
            (1, [origin]), {"o": origin, "data": bytes(70_000)}, live
        )
        _expect(
            live.exported == [origin, origin], f"two occurrences were exported {len(live.exported)} times"
        )
        positional, keyword = codec.decode_arguments(payload, attachments, live)
        remote = positional[1][0]
        _expect(isinstance(remote, _Remote) and remote.kind is kind, f"a {kind.name} came back as {remote!r}")
        _expect(codec.convert(keyword["o"], _Remote, live) is keyword["o"], "convert lost a live value")
        _expect(live.adapted == [_Remote], "convert does not adapt live values")
        _refusal(DecodeError, codec.convert, 5, _Remote, live)
        _refusal(DecodeError, codec.decode_arguments, payload, attachments)
        _refusal(EncodeError, codec.encode, origin)
        live = _Live()
        _refusal(EncodeError, codec.encode, [object()], live)
        payload, attachments = codec.encode({"x": origin}, live)
        value = codec.decoder(dict[str, _Remote])(payload, attachments, live)["x"]
        _expect(value.origin is origin, "the wrong live value came back")
        _refusal(DecodeError, codec.decoder(dict[str, int]), payload, attachments, live)


# -- means -------------------------------------------------------------------------------------------------


def _expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise AssertionError(otherwise)


def _through(codec: Codec, value: Any, annotation: Any) -> Any:
    payload, attachments = codec.encode(value)
    _check_form(payload, attachments)
    return codec.decoder(annotation)(payload, attachments, None)


def _check_form(payload: bytes, attachments: Sequence[Buffer]) -> None:
    _expect(type(payload) is bytes, f"the payload is a {type(payload).__name__}, not bytes")
    for attachment in attachments:
        _expect(
            isinstance(attachment, (bytes, bytearray, memoryview)), f"an attachment is {type(attachment)}"
        )
        whole = memoryview(attachment)
        _expect(
            whole.contiguous and whole.ndim == 1 and whole.nbytes == len(attachment),
            "an attachment is not a contiguous view of bytes",
        )


def _transports(attachments: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """The forms in which transports deliver attachments."""
    yield attachments
    yield [bytes(attachment) for attachment in attachments]
    yield [memoryview(bytearray(attachment)) for attachment in attachments]


def _refusal(expected: type[Exception], function: Any, *args: Any) -> str:
    """Return the message of the error that the function must raise."""
    try:
        result = function(*args)
    except expected as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"expected {expected.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {expected.__name__}, got {result!r:.200}")


def _survive(codec: Codec, payload: bytes, attachments: Sequence[Buffer], annotations: Sequence[Any]) -> None:
    for annotation in annotations:
        try:
            codec.decoder(annotation)(payload, attachments, None)
        except DecodeError:
            pass
        except Exception as error:
            raise AssertionError(
                f"{payload!r:.200} as {annotation} raised {type(error).__name__}: {error}"
            ) from error
    try:
        codec.decode_arguments(payload, attachments)
    except DecodeError:
        pass
    except Exception as error:
        raise AssertionError(
            f"{payload!r:.200} as arguments raised {type(error).__name__}: {error}"
        ) from error
