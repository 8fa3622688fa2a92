"""Callbacks and channels: what the codec asks of LiveValues, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import trio

from duplex._errors import ConfigurationError, DecodeError, EncodeError
from duplex.codec import CODECS, LiveKind, foreign_types
from duplex.engine.channels._types import Callback, Channel, ChannelStatistics, ReceiveChannel, SendChannel
from tests.codec.helpers import CODEC, FakeLive, Remote, through


class Sender:
    """Something that goes out as a channel."""


class RemoteCallback(Remote, Callback[..., Any]):
    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        raise NotImplementedError


class RemoteReceive(Remote, ReceiveChannel[Any]):
    async def receive(self) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStatistics:
        raise NotImplementedError


class RemoteSend(Remote, SendChannel[Any]):
    async def send(self, value: Any) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStatistics:
        raise NotImplementedError


CLASSES = {
    LiveKind.CALLBACK: RemoteCallback,
    LiveKind.SEND_CHANNEL: RemoteSend,
    LiveKind.RECEIVE_CHANNEL: RemoteReceive,
}


class Live(FakeLive):
    """Imports objects of the classes that people write in annotations."""

    def import_(self, kind: LiveKind, number: int) -> Any:
        super().import_(kind, number)
        return CLASSES[kind](kind, number)


def payload_of(code: int, number: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(number)))


@pytest.mark.parametrize("kind", list(LiveKind))
def test_on_the_wire(kind: LiveKind) -> None:
    live = Live({Sender: kind})
    sender = Sender()
    payload, attachments = CODEC.encode([sender], live)
    assert payload == b"\x91" + payload_of(int(kind), 1)
    assert attachments == []
    assert live.exported == [sender]
    (remote,) = CODEC.decoder(Any)(payload, (), live)
    assert (remote.kind, remote.number) == (kind, 1)


def test_every_occurrence_is_exported_once() -> None:
    live = Live({Sender: LiveKind.SEND_CHANNEL})
    sender = Sender()
    big = bytes(70_000)
    payload, attachments = CODEC.encode_arguments((sender, len), {"again": [sender, big]}, live)
    assert live.exported == [sender, len, sender]
    assert attachments == [big]
    positional, keyword = CODEC.decode_arguments(payload, attachments, live)
    assert [remote.number for remote in (*positional, keyword["again"][0])] == [1, 2, 3]
    assert len(live.imported) == 3


class Job(msgspec.Struct):
    name: str
    progress: Callback[[float], None] | None = None
    results: SendChannel[int] | None = None
    inputs: list[ReceiveChannel[str]] = []
    anything: Any = None


def test_typed_fields_are_adapted_to_their_annotation() -> None:
    live = Live({Sender: LiveKind.RECEIVE_CHANNEL})
    job = through(
        {"name": "x", "progress": print, "inputs": [Sender(), Sender()], "anything": print}, Job, live
    )
    assert job.results is None
    assert job.progress.annotation == Callback[[float], None]
    assert [remote.annotation for remote in job.inputs] == [ReceiveChannel[str]] * 2
    assert job.anything.annotation is None
    assert len(live.imported) == 4


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Callback, LiveKind.CALLBACK),
        (Callback[..., int], LiveKind.CALLBACK),
        (Callback[[int, str], bytes], LiveKind.CALLBACK),
        (Callback[[], None] | None, LiveKind.CALLBACK),
        (Callable[[int], Awaitable[None]], LiveKind.CALLBACK),
        (SendChannel, LiveKind.SEND_CHANNEL),
        (SendChannel[dict[str, int]], LiveKind.SEND_CHANNEL),
        (trio.abc.SendChannel[int], LiveKind.SEND_CHANNEL),
        (ReceiveChannel[Job], LiveKind.RECEIVE_CHANNEL),
        (trio.abc.ReceiveChannel, LiveKind.RECEIVE_CHANNEL),
    ],
)
def test_the_annotation_arrives_whole(annotation: Any, kind: LiveKind) -> None:
    live = Live({Sender: kind})
    expected = annotation.__args__[0] if type(None) in getattr(annotation, "__args__", ()) else annotation
    assert through(Sender(), annotation, live).annotation == expected
    (remote,) = through([Sender()], list[annotation], live)
    assert remote.annotation == expected
    payload, attachments = CODEC.encode_arguments((Sender(),), {}, live)
    ((untyped,), _) = CODEC.decode_arguments(payload, attachments, live)
    assert untyped.annotation is None
    assert CODEC.convert(untyped, annotation, live).annotation == expected


def test_values_that_are_not_live() -> None:
    live = Live({Sender: LiveKind.SEND_CHANNEL})
    with pytest.raises(DecodeError, match=r"^expected a .*Callback.*, got 5 - at `\$\.progress`$"):
        through({"name": "x", "progress": 5}, Job, live)
    with pytest.raises(DecodeError, match=r"^Expected `int`, got `RemoteCallback` - at `\$\[0\]`$"):
        through([print], list[int], live)
    with pytest.raises(DecodeError, match=r"^Expected `.*ReceiveChannel`, got `RemoteSend` - at `\$\[1\]`$"):
        through([None, Sender()], list[ReceiveChannel[int] | None], live)


def test_a_failed_single_pass_imports_nothing() -> None:
    live = Live()
    payload, _ = CODEC.encode([print, {"x": print}, 5], live)
    with pytest.raises(DecodeError, match=r"^Expected `str`, got `int` - at `\$\[2\]`$"):
        CODEC.decoder(tuple[Any, Any, str])(payload, (), live)
    assert live.imported == [(LiveKind.CALLBACK, 1), (LiveKind.CALLBACK, 2)]


def test_without_a_call() -> None:
    with pytest.raises(
        EncodeError, match=r"functions and channels travel only while a call lives - at `\$\.x`$"
    ):
        CODEC.encode({"x": print})
    with pytest.raises(DecodeError, match=r"^a send channel arrived where none can be used$"):
        CODEC.decoder(Any)(payload_of(4, 1), (), None)
    with pytest.raises(DecodeError, match=r"^Expected `Callback`, which only a call can carry, got `int`$"):
        CODEC.decoder(Callback[..., Any])(b"\x05", (), None)
    with pytest.raises(DecodeError, match=r"which only a call can carry"):
        CODEC.convert(5, Callback)
    assert CODEC.decoder(Callback[..., Any] | None)(b"\xc0", (), None) is None


@pytest.mark.parametrize("number", [-1, "1", None, [1], 1.0, True])
@pytest.mark.parametrize("code", [3, 4, 5])
def test_bad_numbers(code: int, number: Any) -> None:
    live = Live()
    with pytest.raises(DecodeError, match=f"^extension type {code} holds no number: "):
        CODEC.decoder(Any)(payload_of(code, number), (), live)
    assert not live.imported


def test_what_live_values_refuse_is_passed_on() -> None:
    class Refusing(Live):
        def export(self, value: Any) -> Any:
            raise EncodeError("no more callbacks")

    with pytest.raises(EncodeError, match=r"^no more callbacks$"):
        CODEC.encode(print, Refusing())
    live = Live()
    payload, _ = CODEC.encode([print], live)
    CODEC.decoder(Any)(payload, (), live)
    with pytest.raises(DecodeError, match=r"^CALLBACK 1 was imported before$"):
        CODEC.decoder(Any)(payload, (), live)


def test_exporting_may_itself_encode() -> None:
    class Nested(Live):
        def export(self, value: Any) -> Any:
            assert CODEC.encode([bytes(70_000), 1])[1] == [bytes(70_000)]
            if value is not print:
                assert CODEC.encode([print], self)[0]
            return super().export(value)

    live = Nested()
    payload, attachments = CODEC.encode([len, bytes(80_000), len], live)
    assert [len(part) for part in attachments] == [80_000]
    assert live.exported == [print, len, print, len]
    assert [remote.number for remote in CODEC.decoder(Any)(payload, attachments, live)[::2]] == [2, 4]


# -- objects that msgspec would encode as an empty map -------------------------------------------------------


def channels() -> tuple[Any, Any]:
    send, receive = trio.open_memory_channel[int](1)
    return send, receive


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: [x], lambda x: {"a": (x,)}, lambda x: Job("x", anything=x)]
)
def test_memory_channels_are_exported_wherever_they_are(wrap: Callable[[Any], Any]) -> None:
    send, receive = channels()
    live = Live({type(send): LiveKind.SEND_CHANNEL, type(receive): LiveKind.RECEIVE_CHANNEL})
    for channel in (send, receive):
        CODEC.encode(wrap(channel), live)
        CODEC.encode_arguments((1, wrap(channel)), {"x": wrap(channel)}, live)
    assert live.exported == [send] * 3 + [receive] * 3


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_hollow_objects_never_travel(codec: str) -> None:
    send, _ = channels()
    for value in (send, [{}, b"data", send], {"a": [send]}, Job("x", anything={"y": send}), trio.Event()):
        with pytest.raises(EncodeError, match=r"values of type (MemorySendChannel|Event) cannot travel"):
            CODECS[codec].encode(value)
    plain_ones: list[Any] = [{}, [{}, {}], {"a": {}}, Job("x", anything={})]
    for plain in plain_ones:
        payload, attachments = CODECS[codec].encode(plain)
        CODECS[codec].decoder(Any)(payload, attachments, None)
    with pytest.raises(EncodeError, match=r"^argument 'x': values of type MemorySendChannel"):
        CODECS[codec].encode_arguments((), {"x": send})


def test_the_search_for_them_is_bounded() -> None:
    send, _ = channels()
    with pytest.raises(EncodeError):
        CODEC.encode([[[0] * 10_000] * 3, {"x": send}])
    assert CODEC.encode([[{}] * 900] * 5)[0]
    assert CODEC.encode([[Job("x", anything={})] * 900] * 5)[0]


# -- foreign types -----------------------------------------------------------------------------------------


class Strange:
    pass


def test_foreign_types_are_found() -> None:
    assert foreign_types(dict[str, list[int | None]]) == ()
    assert foreign_types(Any) == foreign_types(object) == ()
    assert foreign_types(list[Strange]) == (Strange,)
    assert set(foreign_types(Job)) == {Callback, SendChannel, ReceiveChannel}
    assert set(foreign_types(Channel[int, str] | None)) == {Channel}


def test_two_of_them_in_one_union_are_too_many() -> None:
    with pytest.raises(ConfigurationError, match=r"more than one custom type"):
        CODEC.decoder(Callback[..., Any] | SendChannel[int])


class Mixture(msgspec.Struct):
    call: Callback[[], None]
    small: np.int8
    whatever: object
    array: npt.NDArray[np.float64]


def test_foreign_types_beside_others() -> None:
    back = through({"call": print, "small": 5, "whatever": [1], "array": np.ones(2)}, Mixture, Live())
    assert isinstance(back.call, RemoteCallback)
    assert (type(back.small), back.whatever, back.array.tolist()) == (np.int8, [1], [1, 1])
    with pytest.raises(DecodeError, match=r"^Expected an array of `float64`.* - at `\$\.array`$"):
        through({"call": print, "small": 5, "whatever": [1], "array": np.ones(2, int)}, Mixture, Live())


def test_a_strange_class_never_gets_a_value() -> None:
    with pytest.raises(DecodeError, match=r"^expected a .*Strange.*, got \{\} - at `\$\[0\]`$"):
        through([{}], list[Strange], Live())
