"""What this side sends, compared with the bytes of RFC 37."""

from __future__ import annotations

from typing import Any

import pytest

from duplex.transports.zmtp import LARGE, encode_frame, encode_message
from tests.transports.zmtp.sessions import connection, greeting, message, opened, prop, ready


@pytest.mark.parametrize("size", [0, 1, 255, 256, LARGE - 1, LARGE, LARGE + 1])
def test_frames_of_all_sizes(size: int) -> None:
    body = b"x" * size
    assert encode_frame(body) == message(body)
    assert b"".join(encode_message([body])) == message(body)
    assert b"".join(encode_message([body, b"", body])) == message(body, b"", body)


def test_small_frames_are_joined_and_large_ones_are_not_copied() -> None:
    large = bytes(LARGE)
    assert encode_message([b"a"] * 500) == [message(*[b"a"] * 500)]
    buffers = encode_message([b"head", large, b"between", b"x", large])
    assert [len(buffer) for buffer in buffers] == [6 + 9, LARGE, 9 + 3 + 9, LARGE]
    assert buffers[1] is large
    assert buffers[3] is large
    array = bytearray(LARGE)
    (_, view) = encode_message([array])
    assert isinstance(view, memoryview)
    assert view.obj is array


def test_all_kinds_of_buffers() -> None:
    rows = memoryview(bytes(range(12))).cast("B", (3, 4))
    steps = memoryview(bytes(range(12)))[::2]
    wide = memoryview(bytes(8)).cast("I")
    assert b"".join(encode_message([bytearray(b"x"), rows, steps, wide])) == message(
        b"x", bytes(range(12)), bytes(range(0, 12, 2)), bytes(8)
    )


def test_small_buffers_are_copied() -> None:
    array = bytearray(b"before")
    buffers = encode_message([array])
    array[:] = b"behind"
    assert b"".join(buffers) == message(b"before")


def test_what_is_no_message() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        encode_message([])
    wrong: Any = [b"right", "wrong"]
    with pytest.raises(TypeError):
        encode_message(wrong)


def test_greeting_and_ready() -> None:
    made = connection("DEALER")
    assert made.data_to_send() == greeting()
    assert not made.has_to_send
    assert made.data_to_send() == b""
    assert list(made.receive(greeting())) == []
    assert made.data_to_send() == ready(b"DEALER", prop(b"Identity", b""))


def test_ping() -> None:
    made = opened()
    assert made.ping(1.5, b"context")
    assert made.data_to_send() == b"\x04\x0e\x04PING\x00\x0fcontext"
    assert made.ping(1e9)
    assert made.data_to_send() == b"\x04\x07\x04PING\xff\xff"


def test_no_ping_for_those_who_do_not_know_it() -> None:
    made = connection()
    assert not made.ping()
    list(made.receive(greeting(version=(3, 0))))
    assert not made.ping()
    list(made.receive(ready()))
    made.data_to_send()
    assert not made.ping()
    assert not made.has_to_send
