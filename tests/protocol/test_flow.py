"""Flow control in chosen situations; ``test_flow_machine.py`` has the ones that nobody chose."""

from __future__ import annotations

import pytest

from duplex._errors import LocalProtocolError, RemoteProtocolError
from duplex._status import StatusCode
from duplex.protocol import (
    END,
    MESSAGE_OVERHEAD,
    NOTIFY,
    NOTIFY_OVERHEAD,
    ChannelState,
    CreditReceived,
    most_waiting,
)
from duplex.protocol._flow import LinkReceiveWindow, ReceiveWindow, SendWindow, least_grant
from tests.protocol.helpers import (
    ConnectionPair,
    cancelled,
    check_accounts,
    closed,
    hello,
    message,
    take_commands,
)


def test_the_overheads_are_the_specified_ones() -> None:
    assert (MESSAGE_OVERHEAD, NOTIFY_OVERHEAD) == (64, 4096)


def test_a_receive_window_grants_half_at_a_time() -> None:
    window = ReceiveWindow(1000, least_grant(1000))
    window.balance -= 900
    window.unconsumed += 900
    assert window.consume(499) == 0
    assert window.consume(1) == 500
    assert window.consume(400) == 0
    assert (window.balance, window.unconsumed, window.consumed) == (600, 0, 400)


def test_a_message_needs_credit_of_its_channel_and_of_the_link() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100, link_window=1000))
    channel, other = pair.open(), pair.open()
    assert pair.a.has_credit(channel)
    run = pair.a.begin_items(channel)
    assert run is not None
    assert run.add(bytes(100))
    assert not pair.a.has_credit(channel), "what a run took is paid for"
    assert pair.a.has_credit(other)
    pair.a.send(other, bytes(1000))
    third = pair.open()
    assert pair.a.credit(third) > 0
    assert not pair.a.has_credit(third), "the link has none"
    assert not pair.a.has_credit(99)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_the_smallest_windows_grant_at_once(size: int) -> None:
    assert least_grant(size) == 1
    assert SendWindow(size).balance == size


def test_a_link_window_grants_half_of_what_is_not_held() -> None:
    """Or what is held for ever would keep back what was consumed beside it."""
    window = LinkReceiveWindow(1000, buffer=0)
    window.balance -= 900
    window.unconsumed += 900
    assert window.consume(99) == 0
    assert window.consume(1) == 100
    assert window.park() == 0
    assert (window.balance, window.unconsumed, window.consumed) == (200, 800, 0)


def test_a_link_window_counts_what_is_parked_as_consumed() -> None:
    window = LinkReceiveWindow(1000, buffer=600)
    window.balance -= 400
    window.unconsumed += 400
    assert window.park() == 0
    assert (window.parked, window.consumed) == (400, 400)
    assert window.park() == 0, "only once"
    window.balance -= 300
    window.unconsumed += 300
    assert window.park() == 600, "no more than the buffer holds"
    assert (window.balance, window.parked, window.unconsumed) == (900, 600, 700)
    assert window.consume(100) == 0
    assert (window.consumed, window.parked, window.unconsumed) == (100, 600, 600)
    assert window.consume(600) == 0, "it was granted when it was parked"
    assert (window.balance, window.consumed, window.parked, window.unconsumed) == (900, 100, 0, 0)


def test_as_many_messages_wait_as_credit_pays_for_and_what_needs_none() -> None:
    small = hello(link_window=6400, max_channels=10).limits
    assert small is not None
    assert most_waiting(small) >= 100 + 10
    more = hello(link_window=6400 + 64 * 50, max_channels=10).limits
    assert more is not None
    assert most_waiting(more) - most_waiting(small) == 50
    pair = ConnectionPair(hello("a"), hello("b", link_window=6400, max_channels=10, channel_window=6400))
    channel = pair.open()
    messages = 1
    while pair.a.link_credit > 0:
        pair.a.send(channel, b"")
        messages += len(pair.a.data_to_send())
    assert 100 <= messages <= most_waiting(small)


def test_how_much_is_parked_is_asked_each_time_when_it_matters() -> None:
    room = 0
    pair = ConnectionPair(hello("a"), hello("b", link_window=2000, channel_window=10_000), room=lambda: room)
    channel = pair.open()

    def send() -> None:
        pair.a.send(channel, bytes(436))
        pair.flush()

    for _ in range(3):
        send()
    assert pair.a.link_credit == 500, "there is no room"
    room = 1200
    send()
    assert pair.a.link_credit == 1200, "what is parked is given back"
    room = 0
    send()
    send()
    assert pair.a.link_credit == 200, "and kept, though there is no room any more"
    assert pair.b._incoming.parked == 1200


def test_notifications_are_never_parked() -> None:
    """Their credit is what bounds how many run."""
    pair = ConnectionPair(hello("a"), hello("b", link_window=10_000), link_buffer=100_000)
    for _ in range(3):
        pair.a.open("s.m", payload=b"", flags=END | NOTIFY)
    pair.flush()
    assert pair.a.link_credit == 10_000 - 3 * 4096 < 0
    pair.b.finish(1)
    pair.flush()
    assert pair.a.link_credit == 10_000 - 2 * 4096


def test_streams_leave_credit_to_calls() -> None:
    pair = ConnectionPair(binding=hello("b", link_window=8000))
    assert pair.a.link_credit == 8000
    assert pair.a.stream_credit == 7000


def test_an_item_is_what_send_would_have_sent() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    before = pair.a.credit(channel), pair.a.link_credit
    run = pair.a.begin_items(channel)
    assert run is not None
    assert run.add(b"item")
    assert take_commands(pair.a) == [[8, channel, b"item"]]
    cost = len(b"item") + MESSAGE_OVERHEAD
    assert (pair.a.credit(channel), pair.a.link_credit) == (before[0] - cost, before[1] - cost)


@pytest.mark.parametrize("why", ["no such channel", "ended", "too large", "channel credit", "link credit"])
def test_an_item_that_cannot_be_sent_changes_nothing(why: str) -> None:
    limits = {
        "channel credit": {"channel_window": 100},
        "link credit": {"link_window": 1000},
        "too large": {"max_message": 1024},
    }
    pair = ConnectionPair(binding=hello("b", **limits.get(why, {})))
    channel = pair.open()
    payload = b"x"
    match why:
        case "no such channel":
            channel += 2
        case "ended":
            pair.a.end(channel)
        case "too large":
            payload = bytes(1025)
        case "channel credit":
            pair.a.send(channel, bytes(100))
        case "link credit":
            pair.a.send(channel, bytes(1000 - 1000 // 8 - MESSAGE_OVERHEAD))
            assert pair.a.link_credit == 1000 // 8, "what is left is for calls and results"
    take_commands(pair.a)
    before = pair.a.credit(channel), pair.a.link_credit
    run = pair.a.begin_items(channel)
    assert run is None or not run.add(payload)
    assert (pair.a.credit(channel), pair.a.link_credit) == before
    assert not pair.a.has_data_to_send


def test_held_messages_do_not_keep_consumed_credit_back() -> None:
    """What nobody takes is more than half the window; calls beside it use up and get back the rest."""
    pair = ConnectionPair(binding=hello("b", channel_window=600, link_window=1000))
    stalled = pair.open()
    pair.a.send(stalled, bytes(600 - MESSAGE_OVERHEAD))
    pair.flush()
    for _ in range(50):
        assert pair.a.link_credit > 0
        channel = pair.open(payload=bytes(36))
        pair.b.consumed(channel, 100)
        pair.b.close(channel)
        pair.flush()


def test_parked_messages_leave_the_link_to_others() -> None:
    """Streams that nobody takes fill their own windows, more of them than the link has room for."""
    pair = ConnectionPair(binding=hello("b", channel_window=600, link_window=1000), link_buffer=3000)
    for _ in range(5):
        stalled = pair.open()
        pair.a.send(stalled, bytes(600 - MESSAGE_OVERHEAD))
        pair.flush()
        assert pair.a.credit(stalled) == 0
    assert pair.a.link_credit > 500
    assert pair.b.statistics().unconsumed == 3000
    pair.a.send(pair.open(), bytes(1000))
    pair.flush()
    assert pair.a.link_credit <= 0, "beyond the buffer the link waits"
    pair.b.consumed(stalled, 600)
    pair.flush()
    assert pair.a.link_credit > 0


def test_messages_cost_their_bytes_and_an_overhead_on_channel_and_link() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=10_000, link_window=20_000))
    channel = pair.open()
    pair.a.send(channel, b"x" * 100, [b"y" * 10])
    assert pair.a.credit(channel) == 10_000 - 174
    assert pair.a.link_credit == 20_000 - 174
    pair.expect(b=[message(channel, b"x" * 100, [b"y" * 10])])
    assert pair.b.unconsumed(channel) == 174
    assert pair.b.statistics().unconsumed == 174


def test_all_else_is_free() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100, link_window=100))
    before = pair.a.link_credit
    channel = pair.a.open("s.m", metadata={"k": "v" * 100})
    pair.a.end(channel)
    pair.a.cancel(channel, "x" * 100)
    pair.a.ping(0.0)
    pair.a.leave("draining", "x" * 100)
    assert pair.a.link_credit == before


def test_a_sender_may_go_below_zero_once() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100))
    channel = pair.open()
    pair.a.send(channel, bytes(35))
    assert pair.a.credit(channel) == 1
    pair.a.send(channel, bytes(5000))
    assert pair.a.credit(channel) == 1 - 5064
    with pytest.raises(LocalProtocolError, match="the channel's credit is used up"):
        pair.a.send(channel, b"")
    pair.flush()
    pair.b.consumed(channel, 99)
    pair.expect(a=[CreditReceived(channel)])
    pair.b.consumed(channel, 5064)
    pair.expect(a=[CreditReceived(channel)])
    assert pair.a.credit(channel) == 100
    pair.a.send(channel, b"")


def test_a_first_message_larger_than_the_window_travels() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100, link_window=100))
    channel = pair.a.open("s.m", payload=bytes(9000))
    assert pair.a.credit(channel) == 100 - 9064
    with pytest.raises(LocalProtocolError, match="the link's credit is used up"):
        pair.a.open("s.m", payload=b"")
    pair.a.open("s.m")
    pair.flush()
    pair.b.consumed(channel, 9064)
    at_a, _ = pair.flush()
    assert at_a == [CreditReceived(channel), CreditReceived(0)]
    assert pair.a.credit(channel) == pair.a.link_credit == 100


def test_the_opener_chooses_the_window_for_the_other_direction() -> None:
    pair = ConnectionPair(hello("a", channel_window=500))
    default, chosen = pair.open(), pair.open(window=10)
    assert pair.b.credit(default) == 500
    assert pair.b.credit(chosen) == 10
    pair.b.send(chosen, b"")
    with pytest.raises(LocalProtocolError, match="channel's credit"):
        pair.b.send(chosen, b"")
    pair.flush()
    pair.a.consumed(chosen, 64)
    pair.expect(b=[CreditReceived(chosen)])
    assert pair.b.credit(chosen) == 10


def test_a_window_of_nothing_admits_nothing() -> None:
    pair = ConnectionPair()
    channel = pair.open(window=0)
    with pytest.raises(LocalProtocolError, match="channel's credit"):
        pair.b.send(channel, b"")
    pair.b.close(channel, StatusCode.OUT_OF_RANGE)
    pair.expect(a=[closed(channel, StatusCode.OUT_OF_RANGE)])


def test_no_credit_is_granted_for_a_direction_that_has_ended() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100))
    channel = pair.open()
    pair.a.send(channel, bytes(100), flags=END)
    pair.flush()
    pair.b.consumed(channel, 164)
    assert take_commands(pair.b) == []


@pytest.mark.parametrize("balance", [0, -1])
def test_credit_of_exactly_nothing_is_nothing(balance: int) -> None:
    """At the sender and at the receiver alike, for channels and for links."""
    pair = ConnectionPair(hello("a", channel_window=100), hello("b", channel_window=100, link_window=200))
    first, second = pair.open(), pair.open()
    pair.a.send(first, bytes(36 - balance))
    pair.b.send(first, bytes(36 - balance))
    pair.flush()
    assert pair.a.credit(first) == balance
    with pytest.raises(LocalProtocolError, match="channel's credit"):
        pair.a.send(first, b"")
    pair.inject(pair.b, [8, first, b""])
    assert pair.b.statistics().channel_violations == 1
    pair.inject(pair.a, [10, first, 0, b""])
    assert pair.a.statistics().channel_violations == 1
    pair = ConnectionPair(binding=hello("b", link_window=200))
    first, second = pair.open(), pair.open()
    pair.a.send(first, bytes(136 - balance))
    pair.flush()
    assert pair.a.link_credit == balance
    with pytest.raises(LocalProtocolError, match="link's credit"):
        pair.a.send(second, b"")
    with pytest.raises(RemoteProtocolError, match="more on the link"):
        pair.inject(pair.b, [8, second, b""])


# -- overruns ------------------------------------------------------------------------------------------


def test_an_overrun_breaks_the_channel() -> None:
    pair = ConnectionPair(binding=hello("b", channel_window=100))
    channel, innocent = pair.open(), pair.open()
    pair.a.send(channel, bytes(100))
    pair.a._channels[channel].outgoing.balance = 10**6
    pair.a.send(channel, b"too much")
    text = f"the peer sent more on channel {channel} than the window it was granted"
    at_a, at_b = pair.flush()
    assert at_b == [message(channel, bytes(100)), cancelled(channel, text, closed=True)]
    assert at_a == [closed(channel, StatusCode.RESOURCE_EXHAUSTED, message=text)]
    statistics = pair.b.statistics()
    assert (statistics.channel_violations, statistics.unconsumed) == (1, 0)
    pair.b.consumed(channel, 164)
    assert pair.b.statistics().unconsumed == 0, "it was given back already"
    assert pair.a.channel_state(innocent) == ChannelState.OPEN


def test_an_overrun_by_the_responder_is_cancelled() -> None:
    pair = ConnectionPair(hello("a", channel_window=100))
    channel = pair.open()
    pair.b.send(channel, bytes(100))
    pair.b._channels[channel].outgoing.balance = 10**6
    pair.b.send(channel, b"too much")
    text = f"the peer sent more on channel {channel} than the window it was granted"
    at_a, at_b = pair.flush()
    assert at_a == [
        message(channel, bytes(100)),
        closed(channel, StatusCode.RESOURCE_EXHAUSTED, message=text),
    ]
    assert at_b == [cancelled(channel, text)]
    assert pair.a.statistics().unconsumed == 0


def test_an_overrun_by_the_last_message_becomes_the_error() -> None:
    pair = ConnectionPair(hello("a", channel_window=100))
    channel = pair.open()
    pair.b.send(channel, bytes(100))
    pair.b._channels[channel].outgoing.balance = 10**6
    pair.b.close(channel, payload=b"too much")
    text = f"the peer sent more on channel {channel} than the window it was granted"
    pair.expect(
        a=[message(channel, bytes(100)), closed(channel, StatusCode.RESOURCE_EXHAUSTED, message=text)]
    )
    assert pair.a.statistics().channel_violations == 1


@pytest.mark.parametrize("how", ["open", "send", "close", "notify"])
def test_an_overrun_of_the_link_breaks_the_link(how: str) -> None:
    pair = ConnectionPair(binding=hello("b", link_window=100))
    channel = pair.open()
    theirs = pair.open(pair.b)
    pair.a.send(channel, bytes(100))
    pair.flush()
    pair.a._outgoing.balance = 10**6
    if how == "open":
        pair.a.open("s.m", payload=b"")
    elif how == "send":
        pair.a.send(channel, b"")
    elif how == "close":
        pair.a.close(theirs, payload=b"")
    else:
        pair.a.open("s.m", payload=b"", flags=END | NOTIFY)
    with pytest.raises(RemoteProtocolError, match="more on the link than the window it was granted"):
        pair.flush()


# -- what was not taken when a channel ends ------------------------------------------------------------


def test_unread_messages_outlive_close_until_they_are_taken() -> None:
    pair = ConnectionPair(hello("a", link_window=1000))
    channel = pair.open()
    pair.b.send(channel, bytes(236))
    pair.b.send(channel, bytes(436))
    pair.b.close(channel, payload=b"last")
    at_a, _ = pair.flush()
    assert len(at_a) == 3
    assert pair.a.statistics().unconsumed == 800
    assert pair.a.unconsumed(channel) == 0, "the channel itself is over"
    pair.a.consumed(channel, 300)
    assert pair.a.statistics().unconsumed == 500
    pair.a.consumed(channel, 500)
    assert pair.a.statistics().unconsumed == 0
    pair.a.consumed(channel, 500)
    assert pair.a.statistics().unconsumed == 0
    check_accounts(pair.a)
    pair.flush()
    assert pair.b.link_credit == 1000 - pair.a._incoming.consumed


def test_no_more_is_given_back_than_was_left_unread() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.b.send(channel, b"x")
    pair.b.close(channel)
    pair.flush()
    pair.a.consumed(channel, 1000)
    assert pair.a.statistics().unconsumed == 0
    check_accounts(pair.a)


def test_cancel_gives_back_what_a_closed_channel_left_unread() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.b.send(channel, bytes(1000))
    pair.b.close(channel)
    pair.flush()
    pair.a.cancel(channel)
    assert pair.a.statistics().unconsumed == 0
    assert not pair.a.has_data_to_send
    pair.a.cancel(channel)
    pair.a.consumed(channel, 1064)
    assert pair.a.statistics().unconsumed == 0


@pytest.mark.parametrize("then", ["consume", "close"])
def test_cancel_gives_credit_back_once(then: str) -> None:
    pair = ConnectionPair()
    channel = pair.open(payload=bytes(1000))
    pair.a.send(channel, bytes(500))
    pair.b.send(channel, bytes(700))
    pair.flush()
    assert pair.b.statistics().unconsumed == 1628
    assert pair.a.statistics().unconsumed == 764
    pair.a.cancel(channel)
    assert pair.a.statistics().unconsumed == 0
    pair.flush()
    assert pair.b.statistics().unconsumed == 0
    if then == "consume":
        pair.b.consumed(channel, 1064)
        pair.a.consumed(channel, 764)
    pair.b.close(channel)
    pair.flush()
    assert pair.b.statistics().unconsumed == pair.a.statistics().unconsumed == 0


def test_close_gives_back_what_the_responder_left_unread() -> None:
    pair = ConnectionPair()
    channel = pair.open(payload=bytes(1000))
    pair.b.close(channel)
    assert pair.b.statistics().unconsumed == 0
    pair.b.consumed(channel, 1064)
    assert pair.b.statistics().unconsumed == 0


def test_a_result_needs_no_consumed() -> None:
    pair = ConnectionPair(hello("a", link_window=1000))
    for _ in range(10):
        channel = pair.open()
        pair.b.close(channel, payload=bytes(700))
        pair.flush()
        assert pair.a.statistics().unconsumed == 0


def test_consumed_ignores_nothing_and_strangers() -> None:
    pair = ConnectionPair()
    channel = pair.open(payload=b"x")
    pair.b.consumed(channel, 0)
    pair.b.consumed(12345, 10)
    pair.b.consumed(channel, 66)
    assert pair.b.statistics().unconsumed == 65, "more than there is was not taken"
