"""The vectors of payloads in ``spec/vectors``, in both directions."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from duplex._errors import DecodeError
from duplex.codec import Codec, LiveKind, LiveValues, get_codec
from spec.vectors import payloads
from tests.protocol.test_vectors import load

CASES = load(list(payloads.GROUPS))
BAD = [case for case in CASES if "error" in case.values[0]]
GOOD = [case for case in CASES if "error" not in case.values[0]]


class Live:
    """A callback or a channel, which here is no more than its number. Of no type that a codec knows."""

    def __init__(self, kind: LiveKind, number: int) -> None:
        self.kind = kind
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Live) and (self.kind, self.number) == (other.kind, other.number)

    def __hash__(self) -> int:
        return hash((self.kind, self.number))


class Numbers(LiveValues):
    """Live values that are their numbers."""

    max_attachments = 64
    max_elements = 65_536

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        return (value.kind, value.number) if isinstance(value, Live) else None

    def import_(self, kind: LiveKind, number: int) -> Any:
        return Live(kind, number)

    def adapt(self, value: Any, annotation: Any) -> Any:
        raise AssertionError("no vector has a type")


LIVE_KINDS = {
    "callback": LiveKind.CALLBACK,
    "send_channel": LiveKind.SEND_CHANNEL,
    "receive_channel": LiveKind.RECEIVE_CHANNEL,
}


def revive(value: Any) -> Any:
    """A value as Python has it."""
    if isinstance(value, list):
        return [revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, content),) = value.items()
        if name == "bytes":
            return bytes.fromhex(content)
        if name == "int":
            return int(content)
        if name == "float":
            return float(content)
        if name in ("timestamp", "local-time"):
            return dt.datetime.fromisoformat(content)
        if name == "map":
            return {revive(key): revive(item) for key, item in content}
        if name == "ndarray":
            data = np.frombuffer(bytes.fromhex(content["data"]), np.dtype(content["dtype"]))
            return data.reshape(content["shape"])
        if name in LIVE_KINDS:
            return Live(LIVE_KINDS[name], content)
    return {key: revive(item) for key, item in value.items()}


def same(actual: Any, wanted: Any) -> bool:
    """Whether two values are equal, of the same types throughout."""
    if isinstance(wanted, np.ndarray):
        return (
            isinstance(actual, np.ndarray)
            and actual.dtype.str == wanted.dtype.str
            and actual.shape == wanted.shape
            and actual.tobytes() == wanted.tobytes()
        )
    if isinstance(wanted, dict):
        return (
            isinstance(actual, dict)
            and actual.keys() == wanted.keys()
            and all(same(actual[key], item) for key, item in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(same(a, w) for a, w in zip(actual, wanted, strict=True))
        )
    return type(actual) is type(wanted) and bool(actual == wanted)


def decode(vector: dict[str, Any]) -> Any:
    codec: Codec = get_codec(vector["codec"])
    payload = bytes.fromhex(vector["hex"])
    attachments = [bytes.fromhex(attachment) for attachment in vector["attachments"]]
    if vector["what"] == "arguments":
        positional, keyword = codec.decode_arguments(payload, attachments, Numbers())
        return [positional, keyword]
    return codec.decoder(Any)(payload, attachments, Numbers())


@pytest.mark.parametrize("vector", GOOD)
def test_bytes_to_value(vector: dict[str, Any]) -> None:
    wanted = (
        [revive(half) for half in vector["value"]]
        if vector["what"] == "arguments"
        else revive(vector["value"])
    )
    assert same(decode(vector), wanted)


@pytest.mark.parametrize("vector", [case for case in GOOD if case.values[0]["canonical"]])
def test_value_to_bytes(vector: dict[str, Any]) -> None:
    codec = get_codec(vector["codec"])
    if vector["what"] == "arguments":
        positional, keyword = vector["value"]
        payload, attachments = codec.encode_arguments(revive(positional), revive(keyword), Numbers())
    else:
        payload, attachments = codec.encode(revive(vector["value"]), Numbers())
    assert payload.hex() == vector["hex"]
    assert [bytes(attachment).hex() for attachment in attachments] == vector["attachments"]


@pytest.mark.parametrize("vector", BAD)
def test_undecodable(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(vector)
