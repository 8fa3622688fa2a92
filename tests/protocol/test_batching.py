"""Many commands in one message, and which attachments belong to which."""

from __future__ import annotations

import array
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duplex.protocol import (
    BATCH_BYTES,
    END,
    ChannelOpened,
    Connection,
    EndReceived,
    ItemRun,
    ItemsReceived,
    MessageReceived,
    PingReceived,
    PongReceived,
    max_frame,
)
from tests.protocol.helpers import (
    SMALL,
    ConnectionPair,
    batch,
    commands_of,
    hello,
    message,
    opened,
    take_commands,
)


def test_everything_queued_is_one_message_in_order() -> None:
    pair = ConnectionPair()
    assert pair.a.data_to_send() == []
    channel = pair.a.open("s.m")
    pair.a.send(channel, b"1")
    pair.a.ping(0.0)
    pair.a.send(channel, b"2", flags=END)
    assert pair.a.pending_commands() == 4
    messages = pair.a.data_to_send()
    assert len(messages) == 1
    assert [command[0] for command in commands_of(messages)] == [7, 8, 3, 8]
    assert not pair.a.has_data_to_send
    assert not pair.a.data_to_send()


def test_a_batch_is_sealed_at_its_size() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    half = bytes(BATCH_BYTES // 2 - 64)
    for _ in range(2):
        pair.a.send(channel, half)
    pending = [pair.a.pending_commands()]
    pair.a.end(channel)
    pending.append(pair.a.pending_commands())
    assert pending == [2, 1], "first exactly full, then begun anew"
    assert pair.a.has_data_to_send
    messages = pair.a.data_to_send()
    assert [len(commands_of([frames])) for frames in messages] == [2, 1]
    assert len(messages[0][0]) <= BATCH_BYTES


def test_a_message_larger_than_a_batch_goes_alone() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.send(channel, b"")
    pair.a.send(channel, bytes(BATCH_BYTES))
    assert [len(commands_of([frames])) for frames in pair.a.data_to_send()] == [1, 1]


def test_attachments_count_for_the_size() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.send(channel, b"", [bytes(BATCH_BYTES)])
    pair.a.ping(0.0)
    messages = pair.a.data_to_send()
    assert [len(frames) for frames in messages] == [2, 1]


def test_a_batch_is_sealed_at_the_other_sides_number_of_commands() -> None:
    pair = ConnectionPair(binding=hello("b", max_commands=3))
    for _ in range(7):
        pair.a.ping(0.0)
    messages = pair.a.data_to_send()
    assert [len(commands_of([frames])) for frames in messages] == [3, 3, 1]
    for frames in messages:
        assert all(isinstance(event, PingReceived) for event in pair.b.receive(frames, 0.0))


@pytest.mark.parametrize(
    "what", ["metadata", "trailers", "details", "messages", "reasons", "targets", "payloads"]
)
def test_no_honest_batch_is_too_large_for_a_small_peer(what: str) -> None:
    """Whatever bytes a command has, they count; or frame 0 would grow over what the other side takes."""
    small = {"max_message": 8192, "max_metadata": 8192, "max_commands": 10**6, "channel_window": 10**9}
    pair = ConnectionPair(hello("a", **small), hello("b", **small, link_window=10**9))
    wide = "\U0001f40d" * 8192
    count = 600
    for _ in range(count):
        match what:
            case "metadata":
                pair.a.open("s.m", metadata={"k": "v" * 8000})
            case "targets":
                pair.a.open("\U0001f40d" * 63)
            case "payloads":
                pair.a.open("s.m", payload=bytes(8192))
            case "reasons":
                pair.a.cancel(pair.a.open("s.m"), wide)
            case _:
                channel = pair.open(pair.b)
                if what == "trailers":
                    pair.a.close(channel, trailers={"k": "v" * 8000})
                elif what == "details":
                    pair.a.close(channel, 3, details=bytes(8192))
                else:
                    pair.a.close(channel, 3, message=wide)
    messages = pair.a.data_to_send()
    assert what == "targets" or len(messages) > 1
    for frames in messages:
        assert len(frames[0]) <= max_frame(pair.b.local.limits)
        pair.b.receive(frames, 0.0)


def test_attachments_go_to_their_commands() -> None:
    pair = ConnectionPair()
    first = pair.a.open("s.m", payload=b"1", attachments=[b"a", b"b"])
    second = pair.a.open("s.m")
    pair.a.send(second, b"2")
    pair.a.send(second, b"3", [b"c"])
    pair.a.ping(0.0)
    pair.a.send(first, b"4", [b"d", b"e", b"f"])
    assert pair.a.pending_commands() == 6
    pair.expect(
        a=[PongReceived(0.0, 0.0)],
        b=[
            opened(first, payload=b"1", attachments=[b"a", b"b"]),
            opened(second),
            message(second, b"2"),
            message(second, b"3", [b"c"]),
            PingReceived(0.0),
            message(first, b"4", [b"d", b"e", b"f"]),
        ],
    )


def test_attachments_of_late_commands_are_skipped_not_mixed_up() -> None:
    pair = ConnectionPair()
    over, alive = pair.open(), pair.open()
    pair.a.send(over, b"", [b"wrong"])
    pair.a.send(alive, b"", [b"right"])
    pair.b.close(over)
    at_b = pair.deliver(pair.to_b)
    assert at_b == [message(alive, b"", [b"right"])]


def test_attachments_of_refused_channels_are_skipped_not_mixed_up() -> None:
    pair = ConnectionPair(binding=hello("b", max_message=1024))
    frames = [b"w" * 2000, b"right"]
    events = pair.inject(pair.b, [7, 1, "s.m", 0, b"", 1], [7, 3, "s.m", 0, b"", 1], frames=frames)
    assert events == [opened(3, payload=b"", attachments=[b"right"])]


def test_attachments_of_any_item_size_cost_their_bytes_at_both_ends() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    doubles = array.array("d", [1.0, 2.0, 3.0])
    grid = memoryview(bytes(range(24))).cast("B", (2, 3, 4))
    empty = memoryview(array.array("d"))
    pair.a.send(channel, b"", [memoryview(doubles), grid, empty, bytearray(b"x")])
    assert pair.a.credit(channel) == 1024 * 1024 - 64 - 24 - 24 - 1
    _, (event,) = pair.flush()
    assert isinstance(event, MessageReceived)
    assert event.cost == 113
    assert [bytes(buffer) for buffer in event.attachments] == [doubles.tobytes(), bytes(range(24)), b"", b"x"]


def test_attachments_are_not_copied() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    blob, raw = bytearray(b"blob"), b"raw"
    pair.a.send(channel, b"", [blob, raw, memoryview(blob)])
    ((_, *frames),) = pair.a.data_to_send()
    assert frames[0] is blob
    assert frames[1] is raw
    assert isinstance(frames[2], memoryview)
    assert frames[2].obj is blob


def test_frames_may_be_any_buffer() -> None:
    pair = ConnectionPair()
    for number, kind in enumerate((bytes, bytearray, memoryview)):
        channel = 2 * number + 1
        (event,) = pair.b.receive([kind(batch([7, channel, "s.m", 0, b"p"]))], 0.0)
        assert isinstance(event, ChannelOpened)
        assert event.payload == b"p"


def test_an_empty_batch_means_nothing() -> None:
    pair = ConnectionPair()
    pair.now = 5.0
    assert pair.inject(pair.b) == []
    assert pair.b.last_received == 5.0


def test_a_batch_may_be_written_with_any_encoding_of_numbers() -> None:
    pair = ConnectionPair()
    wide = (
        b"\xdd\x00\x00\x00\x01\xdc\x00\x04\xcd\x00\x07\xcf"
        + (1).to_bytes(8, "big")
        + b"\xdb\x00\x00\x00\x03s.m\xd3"
    )
    wide += (0).to_bytes(8, "big")
    assert msgpack.unpackb(wide) == [[7, 1, "s.m", 0]]
    assert pair.b.receive([wide], 0.0) == [opened(1)]


#: Items and what may stand among them, on the two channels that are open: small, empty, too large, with END, with an
#: attachment, then the ends of a channel, signs of life, and a channel that is over.
_AMONG_ITEMS = st.one_of(
    st.builds(lambda channel, size: [8, channel, bytes(size)], st.sampled_from([1, 3]), st.integers(0, 40)),
    st.builds(lambda channel: [8, channel, bytes(2000)], st.sampled_from([1, 3])),
    st.builds(lambda channel: [8, channel, b"end", END], st.sampled_from([1, 3])),
    st.builds(lambda channel: [8, channel, b"more", 0, 1], st.sampled_from([1, 3])),
    st.builds(lambda channel: [11, channel], st.sampled_from([1, 3])),
    st.just([3, 1, 0]),
    st.just([8, 5, b"over"]),
)


@given(st.lists(_AMONG_ITEMS, max_size=30))
@example([[8, 1, b"a"], [8, 1, b"b"], [8, 3, b"c"], [8, 1, b"d"], [3, 1, 0], [8, 1, b"e"]])
@example([[8, 1, bytes(40)]] * 5)
@example([[8, 1, bytes(36)]] * 3)  # the second takes the last of the credit
@example([[8, 1, b"a"], [8, 1, b"more", 0, 1], [8, 1, b"b"], [8, 1, bytes(2000)], [8, 1, b"c"]])
@example([[8, 1, b"a"], [8, 1, b"end", END], [8, 1, b"b"]])
def test_commands_mean_the_same_in_one_message_and_in_many(commands: list[list[Any]]) -> None:
    """Items that follow one another are taken together: that must not show, whatever comes in between."""

    def pair() -> ConnectionPair:
        limits = {**SMALL, "max_commands": 100}
        pair = ConnectionPair(hello("a", **limits), hello("b", **limits))
        for _ in range(3):
            pair.open()
        pair.a.cancel(5)
        pair.deliver(pair.to_b)
        pair.b.close(5)
        pair.b.data_to_send()
        return pair

    def frames_of(some: list[list[Any]]) -> list[bytes]:
        return [b"attachment" for command in some if command[4:] == [1]]

    together, apart = pair(), pair()
    at_once = together.inject(together.b, *commands, frames=frames_of(commands))
    one_by_one = [
        event for command in commands for event in apart.inject(apart.b, command, frames=frames_of([command]))
    ]
    assert at_once == one_by_one
    assert together.b.statistics() == apart.b.statistics()
    assert [together.b.unconsumed(channel) for channel in (1, 3)] == [
        apart.b.unconsumed(channel) for channel in (1, 3)
    ]
    assert commands_of(together.b.data_to_send()) == commands_of(apart.b.data_to_send())


# -- runs of items ---------------------------------------------------------------------------------------


def run_of(connection: Connection, channel: int, *payloads: bytes) -> ItemRun:
    """Begin a run of items and send some."""
    run = connection.begin_items(channel)
    assert run is not None
    for payload in payloads:
        assert run.add(payload)
    return run


def test_messages_in_a_row_are_told_together_and_others_by_themselves() -> None:
    pair = ConnectionPair()
    first, second = pair.open(), pair.open()
    data = [8, first, b"1"], [8, first, b"22"], [8, second, b"3"], [8, first, b"4", 0, 1], [8, first, b"5"]
    assert pair.b.receive([batch(*data, [8, first, b"6", 1]), b"attached"], 0.0) == [
        ItemsReceived(first, [b"1", b"22"], 3 + 2 * 64),
        message(second, b"3"),
        message(first, b"4", [b"attached"]),
        message(first, b"5"),
        message(first, b"6"),
        EndReceived(first),
    ]
    assert pair.b.unconsumed(first) == len(b"1224attached56") + 5 * 64


@pytest.mark.parametrize("then", ["end", "send", "ping", "open", "run", "close", "leave"])
def test_a_run_comes_before_what_is_sent_next(then: str) -> None:
    pair = ConnectionPair()
    channel, other = pair.open(pair.b), pair.open(pair.b)
    run = run_of(pair.a, channel, b"1", b"2")
    assert pair.a.pending_commands() == 2
    assert pair.a.has_data_to_send
    match then:
        case "end":
            pair.a.end(channel)
        case "send":
            pair.a.send(channel, b"3")
        case "ping":
            pair.a.ping(0.0)
        case "open":
            pair.a.open("s.m")
        case "run":
            run_of(pair.a, other, b"3")
        case "close":
            pair.a.close(channel)
        case "leave":
            pair.a.leave()
    assert not run.add(b"late"), "the run is over"
    first, second, third = take_commands(pair.a)
    assert [first, second] == [[8, channel, b"1"], [8, channel, b"2"]]
    assert third[0] == {"end": 9, "send": 8, "ping": 3, "open": 7, "run": 8, "close": 10, "leave": 5}[then]


@pytest.mark.parametrize("asked", ["link_credit", "stream_credit", "credit", "statistics", "message"])
def test_a_run_is_paid_for_before_anybody_asks(asked: str) -> None:
    pair = ConnectionPair(hello("a", link_window=1000), hello("b", link_window=1000))
    channel = pair.open(pair.b)
    run = run_of(pair.a, channel, bytes(36), bytes(36))
    match asked:
        case "link_credit":
            assert pair.a.link_credit == 800
        case "stream_credit":
            assert pair.a.stream_credit == 675
        case "credit":
            assert pair.a.credit(channel) == 1024 * 1024 - 200
        case "statistics":
            assert pair.a.statistics().send_credit == 800
        case "message":
            pair.a.close(channel, payload=bytes(36))
            assert pair.a.link_credit == 700
    assert not run.add(b"late"), "the run is over"


@pytest.mark.parametrize("end", ["received", "lost", "transmitted"])
def test_a_run_ends_when_something_comes_and_when_it_is_sent(end: str) -> None:
    pair = ConnectionPair()
    channel = pair.open()
    run = run_of(pair.a, channel, b"1")
    match end:
        case "received":
            pair.inject(pair.a, [10, channel, 0, None])
        case "lost":
            pair.a.terminate()
        case "transmitted":
            assert take_commands(pair.a) == [[8, channel, b"1"]]
    assert not run.add(b"2")
    assert take_commands(pair.a) == ([] if end == "transmitted" else [[8, channel, b"1"]])


def test_a_run_takes_no_more_than_its_credit_and_one_message() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=200))
    channel = pair.open()
    run = run_of(pair.a, channel, bytes(36), bytes(36))
    assert not run.add(b"")
    assert pair.a.credit(channel) == 0
    assert pair.a.begin_items(channel) is None


def test_the_cost_of_a_run_is_told_before_it_is_paid_and_after() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    before = pair.a.link_credit
    run = run_of(pair.a, channel, b"1", b"22")
    assert run.cost == 3 + 2 * 64
    assert pair.a.link_credit == before - run.cost
    assert run.cost == 3 + 2 * 64, "it is settled now"
    assert not run.add(b"4")
    assert run.cost == 3 + 2 * 64


def test_a_run_may_be_more_than_a_batch() -> None:
    pair = ConnectionPair(binding=hello("b", max_commands=3, channel_window=10**7))
    channel = pair.open()
    run_of(pair.a, channel, *(b"%d" % number for number in range(7)))
    messages = pair.a.data_to_send()
    assert [len(commands_of([frames])) for frames in messages] == [3, 3, 1]
    half = bytes(BATCH_BYTES // 2)
    run_of(pair.a, channel, half, half)
    assert [len(commands_of([frames])) for frames in pair.a.data_to_send()] == [1, 1]


def test_a_run_of_nothing_is_nothing() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    run_of(pair.a, channel)
    assert not pair.a.has_data_to_send
    assert pair.a.data_to_send() == []
