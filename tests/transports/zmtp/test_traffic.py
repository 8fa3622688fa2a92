"""Messages and commands after the handshake."""

from __future__ import annotations

import pytest

from duplex.transports.zmtp import LARGE, Bounds, ZmtpConnection, ZmtpError
from tests.transports.zmtp.sessions import (
    AFTER,
    OPENING,
    KiB,
    command,
    connection,
    frame,
    message,
    opened,
    plain,
)


def refused(data: bytes, made: ZmtpConnection | None = None) -> ZmtpError:
    with pytest.raises(ZmtpError) as caught:
        list((made or opened()).receive(data))
    return caught.value


MESSAGES = [
    [b""],
    [b"x"],
    [b"a" * 255],
    [b"a" * 256],
    [b"a" * (LARGE - 1)],
    [b"a" * LARGE],
    [b"a" * (3 * LARGE)],
    [b"", b""],
    [b"a", b"", b"b", b""],
    [b"head", b"l" * (2 * LARGE), b"tail"],
    [b"l" * LARGE, b"m" * LARGE],
    [b"k"] * 16,
]


@pytest.mark.parametrize("size", [1, 3, 1000, LARGE, 10**9])
def test_messages_in_pieces(size: int) -> None:
    made = opened()
    data = b"".join(message(*frames) for frames in MESSAGES)
    if size < 1000:
        data = data[: 12 * KiB] + message(b"end")  # the pieces of more would be too many
        data = b"".join(message(*frames) for frames in MESSAGES[:4]) + message(b"end")
    got = []
    for start in range(0, len(data), size):
        got += plain(made.receive(data[start : start + size]))
    assert got == (MESSAGES if size >= 1000 else [*MESSAGES[:4], [b"end"]])
    assert made.received == len(OPENING) + len(data)


def test_the_first_frame_is_bytes_and_large_ones_are_views() -> None:
    made = opened()
    large = bytes(LARGE)
    for data in (message(large, b"x", large), message(large, b"x", large) + message(b"")):
        frames, *_ = made.receive(data)
        assert [type(part) for part in frames] == [bytes, bytes, memoryview]
        assert all(part.readonly for part in frames if isinstance(part, memoryview))
    made = opened()
    data = message(large, b"x", large)
    (frames,) = [*made.receive(data[:-100]), *made.receive(data[-100:])]
    assert [type(part) for part in frames] == [bytes, bytes, memoryview]
    assert isinstance(frames[2], memoryview)
    assert frames[2].readonly


def test_a_large_frame_is_read_into_its_place() -> None:
    made = opened()
    asked: list[int] = []
    large = bytes(range(256)) * (LARGE // 128)

    def allocate(size: int) -> bytearray:
        asked.append(size)
        return bytearray(size + 1000)  # a buffer may be larger than it has to be

    made._allocate = allocate
    assert made.room() is None
    data = message(b"head", large)
    assert list(made.receive(data[:100])) == []
    assert asked == [len(large)]
    at = 100
    got = None
    while (room := made.room()) is not None:
        assert len(room) == len(data) - at
        count = min(50_000, len(room))
        room[:count] = data[at : at + count]
        at += count
        room.release()
        assert got is None
        got = made.filled(count)
    assert got is not None
    assert plain([got]) == [[b"head", large]]
    assert made.received == len(OPENING) + len(data)
    assert plain(made.receive(message(b"after"))) == [[b"after"]]


def test_messages_are_read_as_they_are_asked_for() -> None:
    """So one who sends many does not hold up others, and what is trusted is trusted from the next frame on."""
    made = connection()
    messages = made.receive(OPENING + message(b"HELLO") + message(b"one", bytes(LARGE + 1)))
    assert next(messages) == (b"HELLO",)
    made.trust()
    assert plain(messages) == [[b"one", bytes(LARGE + 1)]]


def test_the_messages_before_what_is_wrong_come() -> None:
    made = opened()
    messages = made.receive(message(b"one") + message(b"two", b"three") + b"\xff")
    assert plain([next(messages), next(messages)]) == [[b"one"], [b"two", b"three"]]
    assert list(messages) == []  # a head has two bytes
    with pytest.raises(ZmtpError, match="the flags 0xff"):
        list(made.receive(bytes(9)))


def test_a_connection_that_is_over_keeps_nothing() -> None:
    made = opened()
    assert list(made.receive(message(b"first", bytes(LARGE + 1))[:-1])) == []
    assert made._frames == [b"first"]
    assert made.room() is not None
    made.forget()
    assert made.room() is None
    assert not made._frames


def test_short_frames_may_have_long_sizes() -> None:
    assert plain(opened().receive(frame(b"x", 1, long=True) + frame(b"y", long=True))) == [[b"x", b"y"]]


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (bytes([8, 0]), "frame", "the flags 0x08"),
        (bytes([0x80, 0]), "frame", "the flags 0x80"),
        (bytes([5, 0]), "frame", "a command has the flags 0x05"),
        (bytes([7]) + bytes(8), "frame", "a command has the flags 0x07"),
        (
            bytes([2]) + b"\xff" * 8,
            "frame",
            f"a frame has {2**64 - 1} bytes, which is more than there can be",
        ),
        (bytes([2, 0x80]) + bytes(7), "frame", "which is more than there can be"),
        (bytes([2, 0x7F]) + b"\xff" * 7, "bounds", f"bytes, and {AFTER.frame} are allowed"),
        (
            bytes([6]) + (LARGE).to_bytes(8, "big"),
            "command",
            f"a command has {LARGE} bytes, and {LARGE - 1} are allowed",
        ),
        (command(b"PING"), "command", "a PING of 0 bytes, and 2 to 18 are possible"),
        (command(b"PING", b"\0"), "command", "a PING of 1 bytes"),
        (command(b"PING", bytes(19)), "command", "a PING of 19 bytes"),
        (frame(b"", 4), "command", "is no name"),
    ],
)
def test_what_is_wrong(data: bytes, kind: str, what: str) -> None:
    error = refused(message(b"fine") + data)
    assert error.kind == kind
    assert what in str(error)
    assert error.at == len(OPENING) + 6


@pytest.mark.parametrize("more", [0, 1])
def test_bounds_of_frames_and_messages(more: int) -> None:
    bounds = Bounds(frame=100, frames=3, message=250, commands=2)
    assert plain(opened(after=bounds).receive(message(bytes(100), bytes(100), bytes(50)))) == [
        [bytes(100), bytes(100), bytes(50)]
    ]
    for data, what in [
        (frame(bytes(101), more), "a frame has 101 bytes, and 100 are allowed"),
        (message(bytes(100), bytes(100), bytes(51)), "more than the 250 bytes"),
        (message(*[b""] * 4), "more than the 3 frames"),
    ]:
        # The head is enough.
        made = opened(after=bounds)
        assert what in str(refused(data, made))
    assert "more than the 50 bytes" in str(
        refused(bytes([0, 51]), opened(after=Bounds(frame=100, frames=3, message=50, commands=2)))
    )


def test_no_buffer_is_made_for_what_is_too_large() -> None:
    made = opened()

    def allocate(size: int) -> bytearray:
        raise AssertionError

    made._allocate = allocate
    refused(message(b"x", bytes(AFTER.frame + 1))[:12], made)


def test_a_frame_for_which_there_is_no_memory_costs_its_connection() -> None:
    made = opened()

    def allocate(size: int) -> bytearray:
        raise MemoryError

    made._allocate = allocate
    error = refused(message(bytes(LARGE))[:100], made)
    assert f"there is no memory for a frame of {LARGE} bytes" in str(error)
    assert error.kind == "bounds"


def test_empty_messages_do_not_count_for_others() -> None:
    made = opened()
    assert len(list(made.receive(message(b"", b"", bytes(1000)) * 1000))) == 1000


def test_pings_are_answered() -> None:
    made = opened()
    assert list(made.receive(command(b"PING", b"\0\x0f"))) == []
    assert made.ttl == 1.5
    assert made.has_to_send
    assert made.data_to_send() == command(b"PONG")
    list(made.receive(command(b"PING", b"\0\0context of 16 b.")))
    assert made.ttl == 0
    assert made.data_to_send() == command(b"PONG", b"context of 16 b.")


def test_pings_may_stand_between_frames() -> None:
    made = opened()
    data = (
        frame(b"one", 1)
        + command(b"PING", b"\0\0")
        + frame(b"two", 1)
        + command(b"SUBSCRIBE")
        + frame(b"three")
    )
    assert plain(made.receive(data)) == [[b"one", b"two", b"three"]]
    assert made.data_to_send() == command(b"PONG")


def test_a_flood_of_pings_is_no_flood_of_answers() -> None:
    made = opened()
    data = b"".join(command(b"PING", b"\0\0%d" % number) for number in range(1000))
    assert list(made.receive(data)) == []
    assert made.data_to_send() == b"".join(command(b"PONG", b"%d" % number) for number in range(984, 1000))


def test_answers_are_counted() -> None:
    made = opened()
    list(made.receive(command(b"PONG", b"x") + command(b"PONG")))
    assert made.pongs == 2


def test_unknown_commands_are_ignored_up_to_a_bound() -> None:
    made = opened()
    data = command(b"SUBSCRIBE", b"x") + command(b"LEAVE") + command(b"a.b-c_D+9")
    assert plain(made.receive(data + message(b"x"))) == [[b"x"]]
    error = refused(command(b"JOIN", bytes(1000)) * (AFTER.commands - 2), made)
    assert error.kind == "command"
    assert "more than 8 commands" in str(error)
    assert not made.has_to_send
