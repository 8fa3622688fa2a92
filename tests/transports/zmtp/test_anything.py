"""Whatever comes, and however it is split: the same messages, or ``ZmtpError``, and nothing else."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duplex.transports.zmtp import LARGE, ZmtpError, encode_message
from tests.fuzz.targets import TARGETS
from tests.sizes import size
from tests.transports.zmtp.sessions import (
    OPENING,
    command,
    connection,
    frame,
    greeting,
    message,
    opened,
    pieces,
    plain,
    prop,
    ready,
)

common = settings(deadline=None, suppress_health_check=list(HealthCheck))

bodies = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"", b"x" * 255, b"x" * 256, b"x" * (LARGE - 1), b"x" * LARGE, b"x" * (LARGE + 1)]),
)
messages = st.lists(st.lists(bodies, min_size=1, max_size=4), max_size=6)


@given(messages, st.lists(st.integers(0, 300_000), max_size=8), st.booleans())
@common
def test_what_is_sent_arrives_however_it_is_split(
    sent: list[list[bytes]], cuts: list[int], reads_on: bool
) -> None:
    data = b"".join(b"".join(encode_message(frames)) for frames in sent)
    made = opened()
    got = []
    for piece in pieces(data, *(cut for cut in cuts if cut < len(data))):
        room = made.room() if reads_on else None
        if room is not None and piece:
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            room.release()
            done = made.filled(count)
            got += plain([done] if done is not None else [])
            piece = piece[count:]
        got += plain(made.receive(piece))
    assert got == sent


PARTS = [
    greeting(),
    greeting(version=(3, 0)),
    ready(),
    ready(b"ROUTER", prop(b"Identity", b"me")),
    command(b"PING", b"\0\x0fcontext"),
    command(b"PONG", b"context"),
    command(b"SUBSCRIBE", b"x"),
    message(b""),
    message(b"HELLO"),
    message(b"one", b"", b"three"),
    frame(b"more", 1),
    frame(b"long", long=True),
    message(b"x" * 300),
    message(bytes(LARGE + 10)),
]


@given(st.binary(max_size=300), st.booleans())
@common
def test_random_bytes(data: bytes, opens: bool) -> None:
    TARGETS["zmtp"](b"\x03" + (OPENING if opens else b"") + data)
    with contextlib.suppress(ZmtpError):
        list(connection("DEALER").receive(data))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_mutated_sessions(seed: int) -> None:
    chance = random.Random(seed)
    errors = 0
    for _ in range(size(1000, 20_000)):
        data = bytearray(OPENING if chance.random() < 0.8 else b"")
        for _ in range(chance.randrange(5)):
            data += chance.choice(PARTS)
        for _ in range(chance.randrange(4)):
            at = chance.randrange(max(0, len(data) - 400), len(data) + 1)
            match chance.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del data[at : at + chance.randrange(1, 9)]
                case 2:
                    data[at:at] = chance.choice(PARTS)
                case _:
                    data[at:at] = chance.randbytes(chance.randrange(1, 9))
        errors += TARGETS["zmtp"](bytes([chance.randrange(256)]) + bytes(data)) is not None
    assert errors
