"""GOAWAY, the end of a link, and PING."""

from __future__ import annotations

import pytest

from duplex._errors import LocalProtocolError, RemoteProtocolError
from duplex._status import StatusCode
from duplex.protocol import (
    END,
    NOTIFY,
    ChannelState,
    GoawayReceived,
    LinkState,
    PingReceived,
    PongReceived,
)
from tests.protocol.helpers import (
    ConnectionPair,
    batch,
    cancelled,
    check_accounts,
    closed,
    message,
    opened,
    take_commands,
)

NEVER_BEGAN = "the peer is leaving (draining) and did not begin the call; it is safe to retry"


def test_running_channels_finish_after_goaway() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.b.leave("draining", "maintenance")
    pair.expect(a=[GoawayReceived("draining", "maintenance")])
    assert pair.b.leaving
    assert pair.a.remote_leaving
    assert not pair.a.can_open
    assert pair.b.can_open, "what it finishes may have to call"
    pair.a.send(channel, b"more")
    pair.b.send(channel, b"less")
    pair.expect(a=[message(channel, b"less")], b=[message(channel, b"more")])
    pair.b.close(channel, payload=b"done")
    pair.expect(a=[closed(channel, payload=b"done")])


@pytest.mark.parametrize("leaver", ["a", "b"])
def test_no_new_channels_towards_the_leaving_side(leaver: str) -> None:
    pair = ConnectionPair()
    leaving = getattr(pair, leaver)
    staying = pair.other(leaving)
    leaving.leave()
    pair.flush()
    with pytest.raises(LocalProtocolError, match="the other side is leaving"):
        staying.open("s.m")
    with pytest.raises(LocalProtocolError, match="the other side is leaving"):
        staying.open("s.m", parent=99)


@pytest.mark.parametrize("leaver", ["a", "b"])
def test_the_leaving_side_may_still_call(leaver: str) -> None:
    pair = ConnectionPair()
    leaving = getattr(pair, leaver)
    leaving.leave()
    channel = leaving.open("s.m", payload=b"x", flags=END)
    at_a, at_b = pair.flush()
    event = opened(channel, "s.m", end=True, payload=b"x")
    assert (at_b if leaver == "a" else at_a) == [GoawayReceived("draining", ""), event]
    pair.other(leaving).close(channel, payload=b"y")
    at_a, at_b = pair.flush()
    assert (at_a if leaver == "a" else at_b) == [closed(channel, payload=b"y")]


def test_when_both_leave_neither_calls() -> None:
    pair = ConnectionPair()
    pair.a.leave()
    pair.b.leave()
    pair.flush()
    for connection in (pair.a, pair.b):
        assert not connection.can_open
        with pytest.raises(LocalProtocolError, match="the other side is leaving"):
            connection.open("s.m")


def test_channels_that_cross_goaway_never_began() -> None:
    pair = ConnectionPair()
    early = pair.open()
    pair.b.leave()
    late = pair.a.open("s.m", payload=b"x" * 100, flags=END)
    abandoned = pair.a.open("s.m")
    pair.a.cancel(abandoned)
    at_a, at_b = pair.flush()
    assert at_b == []
    assert at_a == [
        GoawayReceived("draining", ""),
        closed(late, StatusCode.UNAVAILABLE, message=NEVER_BEGAN, may_have_executed=False),
    ]
    assert pair.a.channel_state(early) == ChannelState.OPEN
    assert pair.a.statistics().channels_opened_here == 1
    assert pair.b.statistics().channels_opened_there == 1
    assert pair.a.statistics().dropped_commands == 2, "the refusals came after GOAWAY had said it all"


def test_goaway_takes_back_nothing() -> None:
    """A last channel that becomes lower is no word on calls that may have run meanwhile."""
    pair = ConnectionPair()
    first, second, third = pair.open(), pair.open(), pair.a.open("s.m")
    pair.flush()
    assert pair.a.receive([batch([5, second, "draining", ""])], 0.0)[-1] == closed(
        third,
        StatusCode.UNAVAILABLE,
        message="the peer is leaving (draining) and did not begin the call; it is safe to retry",
        may_have_executed=False,
    )
    assert pair.a.receive([batch([5, first, "closing", ""])], 0.0) == [GoawayReceived("closing", "")]
    assert pair.a.channel_state(second) == ChannelState.OPEN


def test_goaway_spares_the_channels_of_the_leaving_side() -> None:
    pair = ConnectionPair()
    theirs = pair.open(pair.b)
    pair.b.leave()
    pair.flush()
    assert pair.a.channel_state(theirs) == ChannelState.OPEN
    assert pair.b.channel_state(theirs) == ChannelState.OPEN


@pytest.mark.parametrize("leaver", ["a", "b"])
@pytest.mark.parametrize("opener", ["a", "b"])
def test_what_belongs_to_a_running_channel_may_still_begin(leaver: str, opener: str) -> None:
    """A callback, or a channel passed as a value: without it the call could not finish."""
    pair = ConnectionPair()
    call = pair.open()
    getattr(pair, leaver).leave()
    pair.flush()
    nested = getattr(pair, opener).open(3, payload=b"x", parent=call)
    at_a, at_b = pair.flush()
    assert (at_b if opener == "a" else at_a) == [opened(nested, 3, payload=b"x", parent=call)]


def test_a_nested_channel_that_crosses_goaway_lives() -> None:
    pair = ConnectionPair()
    call = pair.open()
    pair.b.leave()
    nested = pair.a.open(None, parent=call)
    pair.expect(a=[GoawayReceived("draining", "")], b=[opened(nested, None, parent=call)])
    pair.b.close(nested)
    pair.expect(a=[closed(nested)])


def test_a_nested_channel_of_a_call_that_is_over_does_not_begin() -> None:
    pair = ConnectionPair()
    call = pair.open()
    pair.b.leave()
    pair.b.close(call)
    nested = pair.a.open(None, parent=call)
    text = "this peer is leaving; the call never began, so it is safe to retry"
    at_a, at_b = pair.flush()
    assert at_b == []
    assert at_a[-1] == closed(nested, StatusCode.UNAVAILABLE, message=text, trailers={"duplex-refused": "1"})


def test_notify_after_goaway_is_dropped() -> None:
    pair = ConnectionPair()
    pair.b.leave()
    pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    pair.expect(a=[GoawayReceived("draining", "")])
    assert pair.b.statistics().dropped_commands == 1
    assert pair.b.statistics().unconsumed == 0


def test_goaway_may_be_said_again() -> None:
    pair = ConnectionPair()
    pair.b.leave("draining")
    pair.b.leave("closing", "now")
    pair.expect(a=[GoawayReceived("draining", ""), GoawayReceived("closing", "now")])


def test_a_broken_link_is_over_at_both_sides() -> None:
    pair = ConnectionPair()
    channel = pair.open(payload=b"x")
    pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    pair.flush()
    with pytest.raises(RemoteProtocolError, match="never opened"):
        pair.inject(pair.b, [9, 99])
    assert pair.b.is_closed
    (event,), at_b = pair.flush()
    assert at_b == []
    assert event == GoawayReceived("protocol", "END for channel 99, which was never opened")
    for connection in (pair.a, pair.b):
        assert connection.state == LinkState.CLOSED
        assert connection.channel_state(channel) == ChannelState.OVER
        statistics = connection.statistics()
        assert statistics.channels_opened_here == statistics.channels_opened_there == 0
        assert connection.credit(channel) == connection.unconsumed(channel) == 0


def test_nothing_happens_on_a_closed_link() -> None:
    pair = ConnectionPair()
    channel = pair.open(payload=b"x")
    theirs = pair.open(pair.b, payload=b"x")
    pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    done = pair.open(pair.b)
    pair.a.send(done, b"unread")
    pair.a.close(done)
    pair.flush()
    assert pair.b.statistics().unconsumed > 0
    pair.a.send(channel, b"late")
    pair.b.terminate()
    pair.b.terminate()
    check_accounts(pair.b)
    pair.to_b.collect()
    assert pair.deliver(pair.to_b) == []
    assert pair.b.statistics().dropped_commands == 1
    pair.b.consumed(channel, 65)
    pair.b.finish(channel)
    pair.b.cancel(theirs)
    assert not pair.b.has_data_to_send
    for action in (
        lambda: pair.b.open("s.m"),
        lambda: pair.b.send(theirs, b""),
        lambda: pair.b.end(theirs),
        lambda: pair.b.close(channel),
        lambda: pair.b.leave(),
        lambda: pair.b.announce([]),
        lambda: pair.b.ping(0.0),
    ):
        with pytest.raises(LocalProtocolError):
            action()
    assert not pair.b.has_data_to_send


def test_goaway_protocol_ends_the_batch() -> None:
    pair = ConnectionPair()
    assert pair.inject(pair.a, [5, 0, "protocol", "why"], [9, 99], [0, "DMTP", 1, 1, "x"], [1, "auth"]) == [
        GoawayReceived("protocol", "why")
    ]
    assert pair.a.is_closed
    assert pair.a.statistics().dropped_commands == 3


# -- PING ----------------------------------------------------------------------------------------------


def test_ping_measures_the_round_trip_and_tells_the_delay() -> None:
    pair = ConnectionPair()
    pair.now = 10.0
    pair.b.ping(10.0, 0.25)
    assert pair.to_a.waiting == pair.to_a.waiting.__class__()
    pair.now = 10.5
    pair.expect(a=[PingReceived(0.25)], b=[PongReceived(0.5, 0.0)])
    pair.a.ping(10.5, 0.125)
    pair.expect(a=[PongReceived(0.0, 0.25)], b=[PingReceived(0.125)])
    assert pair.a.last_received == pair.b.last_received == 10.5


def test_delays_fit_the_wire() -> None:
    pair = ConnectionPair()
    pair.a.ping(0.0, -1.0)
    pair.a.ping(0.0, 1e300)
    assert [command[2] for command in take_commands(pair.a)] == [0, 2**53 - 1]


def test_a_pong_that_nobody_waits_for_is_dropped() -> None:
    pair = ConnectionPair()
    assert pair.inject(pair.a, [4, 12345, 0]) == []
    assert pair.a.statistics().dropped_commands == 1


def test_only_so_many_pings_are_remembered() -> None:
    pair = ConnectionPair()
    for _ in range(70):
        pair.a.ping(0.0)
    at_a, at_b = pair.flush()
    assert len(at_b) == 70
    assert len(at_a) == 64
    assert pair.a.statistics().dropped_commands == 6


def test_cancel_received_of_a_leaving_side_is_as_ever() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.leave()
    pair.a.cancel(channel, "enough")
    pair.expect(b=[GoawayReceived("draining", ""), cancelled(channel, "enough")])
    pair.b.close(channel, StatusCode.CANCELLED)
    pair.expect()
    assert pair.a.statistics().dropped_commands == 0


def test_a_ping_that_tells_no_delay_is_of_a_peer_without_any() -> None:
    pair = ConnectionPair()
    assert pair.inject(pair.b, [3, 7]) == [PingReceived(0.0)]
