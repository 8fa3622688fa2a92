"""Every pair of state and input, for both machines and both roles, tried on real connections."""

from __future__ import annotations

from typing import Any

import pytest

from duplex._errors import LocalProtocolError, RemoteProtocolError
from duplex._status import StatusCode
from duplex.protocol import ChannelState, Connection, EndReceived, LinkState
from duplex.protocol._states import (
    BINDING_LINK,
    CONNECTING_LINK,
    DROP,
    ILLEGAL,
    OPENER,
    RESPONDER,
    ChannelInput,
    LinkInput,
    compile_table,
)
from tests.protocol.helpers import (
    ConnectionPair,
    batch,
    cancelled,
    closed,
    hello,
    message,
    take_commands,
)

S, C = ChannelState, ChannelInput
L, In = LinkState, LinkInput

# -- the tables themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize("table", [OPENER, RESPONDER, CONNECTING_LINK, BINDING_LINK])
def test_tables_are_complete(table: Any) -> None:
    states = list(next(iter(table)).__class__)
    assert list(table) == states, "every state has a row, in order"
    for row in table.values():
        assert all(step in (DROP, *states) for step in row.values())


def test_compiled_tables_say_the_same() -> None:
    cases: list[tuple[Any, Any]] = [(OPENER, C), (RESPONDER, C), (CONNECTING_LINK, In), (BINDING_LINK, In)]
    for table, inputs in cases:
        compiled = compile_table(table, inputs)
        for state, row in table.items():
            for step_input in inputs:
                assert compiled[state][step_input] == row.get(step_input, ILLEGAL)


def test_only_sending_ends_the_local_direction() -> None:
    for table in (OPENER, RESPONDER):
        for state, row in table.items():
            for step_input, step in row.items():
                if step == S.LOCAL_ENDED and state != S.LOCAL_ENDED:
                    assert step_input is C.SEND_END
                if step == S.REMOTE_ENDED and state != S.REMOTE_ENDED:
                    assert step_input is C.RECV_END


def test_only_a_responder_closes_and_only_an_opener_cancels() -> None:
    assert not any(C.SEND_CLOSE in row for row in OPENER.values())
    assert not any(C.SEND_CANCEL in row for row in RESPONDER.values())
    for state in (S.OPEN, S.LOCAL_ENDED, S.REMOTE_ENDED, S.BOTH_ENDED):
        assert OPENER[state][C.SEND_CANCEL] == S.CANCELLING
        assert OPENER[state][C.RECV_CLOSE] == S.OVER
        assert RESPONDER[state][C.RECV_CANCEL] == S.CANCELLED
        assert RESPONDER[state][C.SEND_CLOSE] == S.OVER


# -- channels ------------------------------------------------------------------------------------------


class ChannelCase:
    """A pair with one channel whose subject is in a given state."""

    def __init__(self, role: str, state: ChannelState, opener_connects: bool) -> None:
        self.pair = pair = ConnectionPair()
        opener = pair.a if opener_connects else pair.b
        self.channel = channel = pair.open(opener)
        responder = pair.other(opener)
        self.subject, other = (opener, responder) if role == "opener" else (responder, opener)
        if state in (S.LOCAL_ENDED, S.BOTH_ENDED):
            self.subject.end(channel)
        if state in (S.REMOTE_ENDED, S.BOTH_ENDED):
            other.end(channel)
        if state in (S.CANCELLING, S.CANCELLED):
            opener.cancel(channel)
        if state == S.OVER:
            responder.close(channel)
        pair.flush()
        assert self.subject.channel_state(channel) == state
        self.role = role

    def send(self, step_input: ChannelInput) -> None:
        subject, channel = self.subject, self.channel
        if step_input is C.SEND_DATA:
            subject.send(channel, b"x")
        elif step_input is C.SEND_END:
            subject.end(channel)
        elif step_input is C.SEND_CLOSE:
            subject.close(channel)
        else:
            subject.cancel(channel)

    def receive(self, step_input: ChannelInput) -> list[Any]:
        channel = self.channel
        command = {
            C.RECV_DATA: [8, channel, b"x"],
            C.RECV_END: [9, channel],
            C.RECV_CLOSE: [10, channel],
            C.RECV_CANCEL: [11, channel],
        }[step_input]
        return self.pair.inject(self.subject, command)


UNREACHABLE = {"opener": S.CANCELLED, "responder": S.CANCELLING}
TABLES = {"opener": OPENER, "responder": RESPONDER}

CHANNEL_CASES = [
    pytest.param(role, state, step_input, id=f"{role}-{state.name}-{step_input.name}")
    for role in TABLES
    for state in S
    for step_input in C
    if state is not UNREACHABLE[role]
]

SENT = {
    C.SEND_DATA: lambda channel: [8, channel, b"x"],
    C.SEND_END: lambda channel: [9, channel],
    C.SEND_CLOSE: lambda channel: [10, channel, 0, None],
    C.SEND_CANCEL: lambda channel: [11, channel],
}


def test_unreachable_rows_are_empty() -> None:
    for role, state in UNREACHABLE.items():
        assert TABLES[role][state] == {}


@pytest.mark.parametrize("opener_connects", [True, False])
@pytest.mark.parametrize(("role", "state", "step_input"), CHANNEL_CASES)
def test_channel(role: str, state: ChannelState, step_input: ChannelInput, opener_connects: bool) -> None:
    case = ChannelCase(role, state, opener_connects)
    step = TABLES[role][state].get(step_input, ILLEGAL)
    subject, channel = case.subject, case.channel
    before = subject.statistics()

    if step_input in SENT:
        if step == ILLEGAL:
            with pytest.raises(LocalProtocolError):
                case.send(step_input)
        else:
            case.send(step_input)
        if step < 0:
            assert subject.channel_state(channel) == state
            assert not subject.has_data_to_send
            assert subject.statistics() == before
        else:
            assert subject.channel_state(channel) == step
            assert take_commands(subject) == [SENT[step_input](channel)]
        return

    events = case.receive(step_input)
    after = subject.statistics()
    assert after.unconsumed == (65 if step >= 0 and step_input is C.RECV_DATA else 0)
    if step == DROP:
        assert events == []
        assert subject.channel_state(channel) == state
        assert after.dropped_commands == before.dropped_commands + 1
        assert not subject.has_data_to_send
        return
    assert after.dropped_commands == before.dropped_commands
    if step == ILLEGAL:
        what = step_input.name.removeprefix("RECV_")
        text = f"the peer broke the protocol: {what} on channel {channel} in state {state.name}"
        assert after.channel_violations == before.channel_violations + 1
        if role == "opener":
            assert subject.channel_state(channel) == S.CANCELLING
            assert events == [closed(channel, StatusCode.INTERNAL, message=text)]
            assert take_commands(subject) == [[11, channel, text]]
        else:
            assert subject.channel_state(channel) == S.OVER
            assert events == [cancelled(channel, text, closed=True)]
            assert take_commands(subject) == [[10, channel, StatusCode.INTERNAL, None, 0, text]]
        return
    assert subject.channel_state(channel) == step
    assert not subject.has_data_to_send
    if state == S.CANCELLING:
        assert events == [], "whoever cancelled has stopped listening"
    else:
        expected = {
            C.RECV_DATA: message(channel, b"x"),
            C.RECV_END: EndReceived(channel),
            C.RECV_CLOSE: closed(channel),
            C.RECV_CANCEL: cancelled(channel),
        }
        assert events == [expected[step_input]]


def test_every_received_case_without_a_record_is_for_a_channel_that_was() -> None:
    for name, command in (
        ("CREDIT", [6, 7, 1]),
        ("DATA", [8, 7, b""]),
        ("END", [9, 7]),
        ("CLOSE", [10, 7]),
        ("CANCEL", [11, 7]),
    ):
        for subject in ("a", "b"):
            pair = ConnectionPair()
            command[1] = 7 if subject == "b" else 8
            with pytest.raises(
                RemoteProtocolError, match=f"{name} for channel {command[1]}, which was never"
            ):
                pair.inject(getattr(pair, subject), command)
            # The first number that the subject itself has not given out yet.
            command[1] = 2 if subject == "b" else 1
            pair = ConnectionPair()
            with pytest.raises(RemoteProtocolError, match="never opened"):
                pair.inject(getattr(pair, subject), command)


# -- links ---------------------------------------------------------------------------------------------

HELLO: list[Any] = [0, "DMTP", 1, 1, "other"]
COMMANDS: list[list[Any]] = [
    [2, []],
    [3, 1, 0],
    [4, 1, 0],
    [5, 0, "draining"],
    [6, 0, 1],
    [7, 1, "s.m"],
    [8, 1, b""],
    [9, 1],
    [10, 1],
    [11, 1],
]
LINK_TABLES = {"connecting": CONNECTING_LINK, "binding": BINDING_LINK}
LINK_STATES = {
    "connecting": [L.IDLE, L.GREETED, L.OPEN, L.CLOSED],
    "binding": [L.IDLE, L.ASKED, L.OPEN, L.CLOSED],
}


def connection_in(role: str, state: LinkState) -> Connection:
    """A connection that got into a state in the ordinary way."""
    connection = Connection(hello(), connecting=role == "connecting", now=0.0)
    if role == "connecting":
        if state != L.IDLE:
            connection.greet()
        if state in (L.OPEN, L.CLOSED):
            connection.receive([batch(HELLO)], 0.0)
    else:
        if state != L.IDLE:
            connection.receive([batch(HELLO)], 0.0)
        if state in (L.OPEN, L.CLOSED):
            connection.accept()
    if state == L.CLOSED:
        connection.terminate()
    connection.data_to_send()
    assert connection.state == state
    return connection


def link_send(connection: Connection, step_input: LinkInput) -> None:
    if step_input is In.SEND_HELLO:
        if connection.connecting:
            connection.greet()
        else:
            connection.accept()
    elif step_input is In.SEND_REFUSE:
        connection.refuse("auth", "no")
    else:
        connection.ping(0.0)


LINK_SEND_CASES = [
    pytest.param(role, state, step_input, id=f"{role}-{state.name}-{step_input.name}")
    for role, states in LINK_STATES.items()
    for state in states
    for step_input in (In.SEND_HELLO, In.SEND_REFUSE, In.SEND_COMMAND)
]


@pytest.mark.parametrize(("role", "state", "step_input"), LINK_SEND_CASES)
def test_link_sends(role: str, state: LinkState, step_input: LinkInput) -> None:
    connection = connection_in(role, state)
    step = LINK_TABLES[role][state].get(step_input, ILLEGAL)
    if step == ILLEGAL:
        with pytest.raises(LocalProtocolError, match=state.name):
            link_send(connection, step_input)
        assert connection.state == state
        assert not connection.has_data_to_send
    else:
        link_send(connection, step_input)
        assert connection.state == step
        assert [command[0] for command in take_commands(connection)] == [
            {In.SEND_HELLO: 0, In.SEND_REFUSE: 1, In.SEND_COMMAND: 3}[step_input]
        ]


RECEIVED: dict[LinkInput, list[list[Any]]] = {
    In.RECV_HELLO: [HELLO],
    In.RECV_REFUSE: [[1, "auth", "no"]],
    In.RECV_COMMAND: COMMANDS,
}
LINK_RECEIVE_CASES = [
    pytest.param(role, state, step_input, command, id=f"{role}-{state.name}-{step_input.name}-{command[0]}")
    for role, states in LINK_STATES.items()
    for state in states
    for step_input, commands in RECEIVED.items()
    for command in commands
    if not (state is L.OPEN and step_input is In.RECV_COMMAND)
]


@pytest.mark.parametrize(("role", "state", "step_input", "command"), LINK_RECEIVE_CASES)
def test_link_receives(role: str, state: LinkState, step_input: LinkInput, command: list[Any]) -> None:
    connection = connection_in(role, state)
    step = LINK_TABLES[role][state].get(step_input, ILLEGAL)
    if step == ILLEGAL:
        with pytest.raises(RemoteProtocolError):
            connection.receive([batch(command)], 0.0)
        assert connection.is_closed
        answer = take_commands(connection)
        if state is L.OPEN or role == "connecting":
            assert [c[0] for c in answer] == [5]
            assert answer[0][2] == "protocol"
        else:
            assert [c[0] for c in answer] == [1]
            assert answer[0][1] == "protocol"
    elif step == DROP:
        assert connection.receive([batch(command)], 0.0) == []
        assert connection.state == state
        assert connection.statistics().dropped_commands == 1
    else:
        assert len(connection.receive([batch(command)], 0.0)) == 1
        assert connection.state == step
        assert not connection.has_data_to_send


@pytest.mark.parametrize("role", ["connecting", "binding"])
def test_an_open_link_takes_every_command(role: str) -> None:
    mine, theirs = (1, 2) if role == "connecting" else (2, 1)
    for command in (
        [2, []],
        [3, 1, 0],
        [4, 1, 0],
        [5, 0, "draining"],
        [6, 0, 1],
        [7, theirs, "s.m"],
        [8, mine, b""],
        [9, mine],
        [10, mine],
    ):
        connection = connection_in(role, L.OPEN)
        connection.open("s.m")
        connection.receive([batch(command)], 0.0)
        assert connection.is_open
    connection = connection_in(role, L.OPEN)
    connection.receive([batch([7, theirs, "s.m"], [11, theirs])], 0.0)
    assert connection.is_open


def test_the_links_unreachable_rows_are_empty() -> None:
    assert CONNECTING_LINK[L.ASKED] == {}
    assert BINDING_LINK[L.GREETED] == {}
