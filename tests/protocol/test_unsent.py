"""What this side keeps of what it sends is bounded by its own word, whatever the other side grants and reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex.protocol import MAX_INTEGER, Connection, CreditReceived, GoawayReceived
from duplex.protocol._flow import LinkSendWindow
from tests.protocol.helpers import ConnectionPair, batch, commands_of, hello, take_commands

BOUND = 100_000
#: A window as large as can be said.
HUGE = {"link_window": MAX_INTEGER, "channel_window": MAX_INTEGER}
ITEM = bytes(936)
COST = 1000


def _pair(**limits: int) -> ConnectionPair:
    return ConnectionPair(hello("a"), hello("b", **limits), max_unsent=BOUND)


def _send_all(sender: Connection, channel: int) -> tuple[int, list[Any]]:
    """Send items for as long as there is credit; return how many, and what is to be transmitted."""
    sent = 0
    messages: list[Any] = []
    while sender.stream_credit > 0 and sender.credit(channel) > 0:
        sender.send(channel, ITEM)
        sent += 1
        messages += sender.data_to_send()
        assert sent <= 10_000, "there is no end to it"
    return sent, messages


def test_a_window_that_is_told_is_no_more_than_this_side_wants_to_keep() -> None:
    pair = _pair(**HUGE)
    channel = pair.open()
    sent, _ = _send_all(pair.a, channel)
    assert BOUND * 3 // 4 < sent * COST < BOUND, "streams leave an eighth to calls and results"
    while pair.a.link_credit > 0:
        pair.a.send(channel, ITEM)
    assert pair.a.statistics().send_credit > 2**52, "by the other side's word"


def test_nor_is_a_grant() -> None:
    pair = _pair()
    channel = pair.open()
    pair.inject(pair.a, [6, 0, 2**52], [6, channel, 2**52])
    sent, _ = _send_all(pair.a, channel)
    assert sent * COST < BOUND


def test_what_is_proven_to_have_arrived_does_not_count() -> None:
    pair = _pair(**HUGE)
    channel = pair.open()
    total = 0
    for _ in range(20):
        sent, messages = _send_all(pair.a, channel)
        assert 0 < sent * COST <= BOUND
        total += sent
        tokens = [command[1] for command in commands_of(messages) if command[0] == 3]
        assert 3 <= len(tokens) <= 5, "there is one for every quarter"
        assert pair.inject(pair.a, [4, tokens[-1], 0]) == [CreditReceived(0)], "which proves the others, too"
        assert len(pair.a._proofs) == 0
    assert total * COST > 10 * BOUND


def test_only_an_answer_to_what_was_read_proves_anything() -> None:
    """Who cannot guess the tokens and answers them has read everything before."""
    tokens = iter([2**52 + 10**6, 2**53 - 1, 2**52, 2**52 + 5 * 10**7])
    pair = ConnectionPair(hello("a"), hello("b", **HUGE), max_unsent=BOUND, proof_token=tokens.__next__)
    channel = pair.open()
    _, messages = _send_all(pair.a, channel)
    first, *rest = [command[1] for command in commands_of(messages) if command[0] == 3]
    before = pair.a.stream_credit
    guesses = [guess for number in (0, 2**52, first) for guess in range(number + 1, number + 300)]
    for guess in guesses:
        pair.inject(pair.a, [4, guess, 0])
    assert pair.a.stream_credit == before
    assert pair.a.statistics().dropped_commands == len(guesses)
    pair.inject(pair.a, [4, first, 0], [4, first, 0])
    assert before < pair.a.stream_credit < BOUND // 2, "only what came before it, and once"
    assert len(pair.a._proofs) == len(rest)


@pytest.mark.parametrize("size", [10, 2_000_000], ids=["small", "larger than a batch"])
def test_what_asks_for_proof_goes_in_the_message_that_it_is_about(size: int) -> None:
    pair = ConnectionPair(hello("a"), hello("b", **HUGE), max_unsent=4 * (size + 64))
    channel = pair.open()
    pair.a.send(channel, bytes(size))
    (message,) = pair.a.data_to_send()
    assert [command[0] for command in commands_of([message])] == [8, 3]
    assert len(pair.b.receive(message, 1.0)) == 2


def test_what_asks_for_proof_has_a_message_of_its_own_behind_one_that_is_full() -> None:
    pair = ConnectionPair(hello("a"), hello("b", max_commands=3, **HUGE), max_unsent=4 * 3 * COST)
    channel = pair.open()
    for _ in range(3):
        pair.a.send(channel, ITEM)
    messages = pair.a.data_to_send()
    assert [[command[0] for command in commands_of([message])] for message in messages] == [[8, 8, 8], [3]]


@pytest.mark.parametrize("window", [10 * BOUND, BOUND, BOUND // 10], ids=["larger", "equal", "smaller"])
def test_a_receiver_with_any_window_gets_everything(window: int) -> None:
    """The sender stops before the receiver has anything to give back, and goes on."""
    pair = _pair(link_window=window, channel_window=window)
    channel = pair.open()
    total = 0
    for _ in range(100):
        total += _send_all_transmitted(pair, channel)
        pair.flush()
        pair.b.consumed(channel, pair.b.unconsumed(channel))
        pair.flush()
    assert total * COST > 2 * BOUND
    assert pair.a.statistics().send_credit >= window // 2


def _send_all_transmitted(pair: ConnectionPair, channel: int) -> int:
    sent = 0
    while pair.a.stream_credit > 0 and pair.a.credit(channel) > 0:
        pair.a.send(channel, ITEM)
        sent += 1
        pair.to_b.collect()
    return sent


def test_a_message_larger_than_the_bound_travels() -> None:
    pair = _pair(**HUGE)
    channel = pair.open()
    for _ in range(3):
        pair.a.send(channel, bytes(3 * BOUND))
        assert pair.a.link_credit < 0
        pair.flush()
        assert pair.a.link_credit > 0


def test_a_run_of_items_ends_at_the_bound() -> None:
    pair = _pair(**HUGE)
    channel = pair.open()
    run = pair.a.begin_items(channel)
    assert run is not None
    added = 0
    while run.add(ITEM):
        added += 1
    assert BOUND * 3 // 4 < added * COST < BOUND
    assert pair.a.begin_items(channel) is None
    pair.flush()
    assert pair.a.begin_items(channel) is not None


@pytest.mark.parametrize("flood", ["refusals", "pongs"])
def test_who_reads_no_answers_is_cut(flood: str) -> None:
    pair = _pair()
    transmitted: list[Any] = []
    channel = -1
    for _ in range(1000):
        commands: list[Any] = []
        for _ in range(100):
            channel += 2
            commands.append([3, 1] if flood == "pongs" else [7, channel, "s.m", 0, None, 0, None, {"A": ""}])
        pair.b.receive([batch(*commands)], 0.0)
        transmitted += pair.b.data_to_send()
        if pair.b.is_closed:
            break
    assert pair.b.is_closed
    assert pair.b.unread is not None
    assert "bytes of answers wait for the peer" in pair.b.unread
    assert "Limits.max_unsent" in pair.b.unread
    size = sum(len(frame) for frames in transmitted for frame in frames)
    assert size < 2 * BOUND
    last = commands_of(transmitted)[-1]
    assert last[:1] + last[2:] == [5, "closing", pair.b.unread]
    assert pair.b.data_to_send() == []


def test_who_reads_answers_may_ask_without_end() -> None:
    pair = _pair()
    for _ in range(100):
        for _ in range(100):
            pair.a.ping(0.0)
        pair.flush()
    assert pair.b.unread is None
    assert not pair.b.is_closed


def test_a_goodbye_to_who_reads_nothing_is_understood() -> None:
    pair = _pair()
    for _ in range(40):
        pair.b.receive([batch(*[[3, 1]] * 100)], 0.0)
        pair.to_a.collect()
    assert pair.b.unread is not None
    events = [event for frames in pair.to_a.waiting for event in pair.a.receive(frames, 0.0)]
    assert events[-1] == GoawayReceived("closing", pair.b.unread)


def test_nothing_is_asked_before_the_link_is_open() -> None:
    connection = Connection(hello("a"), connecting=True, now=0.0, max_unsent=4)
    connection.greet()
    assert [command[0] for command in take_commands(connection)] == [0]


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.sampled_from(["send", "grant", "prove"]), st.integers(0, 2000)), max_size=30),
)
def test_the_window_is_the_smaller_of_two(window: int, steps: list[tuple[str, int]]) -> None:
    """One is granted by the other side, the other one is how much may be unproven."""
    bound = 500
    link = LinkSendWindow(bound)
    link.open(window)
    granted, sent, proven = window, 0, 0
    for what, amount in steps:
        if what == "send":
            link.balance -= amount
            sent += amount
        elif what == "grant":
            link.grant(amount)
            granted += amount
        else:
            proven = min(sent, proven + amount)
            link.prove(proven)
        assert link.sent == sent
        assert link.granted == granted - sent
        assert link.balance == min(granted, proven + bound) - sent
        streams = link.balance - link.reserved
        assert streams == min(granted - window // 8, proven + bound - bound // 8) - sent
