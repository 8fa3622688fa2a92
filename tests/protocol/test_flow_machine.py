"""Flow control under every interleaving that Hypothesis can think of.

Two connections with small windows act at random, and what they send arrives late, in any interleaving of the
two directions. The applications at both ends are a list of what they have not taken yet. After every step
each connection's accounts are consistent; whenever nothing is on its way the two agree; when everything
has been taken, all credit is back where it came from. No honest step may ever break a channel or the link.
Once with links that hold back credit for whatever waits, once with links that do so beyond a buffer.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from duplex.protocol import (
    END,
    NOTIFY,
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ChannelState,
    Connection,
    EndReceived,
    Event,
    MessageReceived,
)
from tests.protocol.helpers import Buffer, ConnectionPair, check_accounts, hello
from tests.protocol.profiles import machine_settings

pytestmark = pytest.mark.unmeasured("random orders of what other tests try one by one")

CHANNEL_WINDOW = 300
LINK_WINDOW = 1000
MAX_MESSAGE = 1024
SIDES = st.sampled_from(["a", "b"])
SIZES = st.one_of(st.integers(0, 400), st.just(MAX_MESSAGE))
FIRST = st.integers(0, 5)


@dataclasses.dataclass
class Application:
    """What uses a connection: it remembers what it has not taken, by channel."""

    connection: Connection
    held: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    mine: dict[int, None] = dataclasses.field(default_factory=dict)
    theirs: dict[int, None] = dataclasses.field(default_factory=dict)
    notified: list[int] = dataclasses.field(default_factory=list)

    def handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case ChannelOpened(notify=True):
                    self.notified.append(event.channel)
                case ChannelOpened():
                    self.theirs[event.channel] = None
                    if event.cost:
                        self.held.append((event.channel, event.cost))
                case MessageReceived():
                    assert event.channel in self.mine or event.channel in self.theirs
                    self.held.append((event.channel, event.cost))
                case ChannelClosed():
                    assert event.status in (0, 14), event.message
                    del self.mine[event.channel]
                case CancelReceived():
                    assert not event.closed, event.reason
                    assert event.channel in self.theirs
                case EndReceived():
                    assert event.channel in self.mine or event.channel in self.theirs
                case _:
                    pass

    def channels(self, *states: ChannelState) -> list[int]:
        return [n for n in (*self.mine, *self.theirs) if self.connection.channel_state(n) in states]


S = ChannelState


class FlowMachine(RuleBasedStateMachine):
    link_buffer = 0

    def __init__(self) -> None:
        super().__init__()
        limits = {
            "channel_window": CHANNEL_WINDOW,
            "link_window": LINK_WINDOW,
            "max_message": MAX_MESSAGE,
            "max_channels": 5,
            "max_commands": 4,
        }
        self.pair = ConnectionPair(hello("a", **limits), hello("b", **limits), link_buffer=self.link_buffer)
        self.applications = {"a": Application(self.pair.a), "b": Application(self.pair.b)}

    # -- choosing ----------------------------------------------------------------------------------------

    def pick(self, side: str, index: int, *states: ChannelState) -> tuple[Application, int | None]:
        application = self.applications[side]
        channels = application.channels(*states)
        return application, channels[index % len(channels)] if channels else None

    # No `assume()` in any rule: it would give up the whole example, not the step.

    # -- what applications do ----------------------------------------------------------------------------

    @rule(side=SIDES, size=st.none() | SIZES, end=st.booleans(), window=st.none() | st.integers(0, 500))
    def open(self, side: str, size: int | None, end: bool, window: int | None) -> None:
        application = self.applications[side]
        connection = application.connection
        if not (connection.can_open and (size is None or connection.link_credit > 0)):
            return
        payload = None if size is None else bytes(size)
        channel = connection.open("s.m", payload=payload, flags=END if end else 0, window=window)
        application.mine[channel] = None

    @rule(side=SIDES, index=FIRST, size=SIZES)
    def open_nested(self, side: str, index: int, size: int) -> None:
        application, parent = self.pick(side, index, S.OPEN, S.LOCAL_ENDED, S.REMOTE_ENDED, S.BOTH_ENDED)
        if parent is None:
            return
        connection = application.connection
        if not (connection.link_credit > 0 and connection.statistics().channels_opened_here < 5):
            return
        channel = connection.open(None, payload=bytes(size), parent=parent)
        application.mine[channel] = None

    @rule(side=SIDES, size=SIZES)
    def notify(self, side: str, size: int) -> None:
        connection = self.applications[side].connection
        if connection.link_credit <= 0 or connection.remote_leaving:
            return
        connection.open("s.m", payload=bytes(size), flags=END | NOTIFY)

    @rule(side=SIDES, index=FIRST, size=SIZES, end=st.booleans())
    def send(self, side: str, index: int, size: int, end: bool) -> None:
        application, channel = self.pick(side, index, S.OPEN, S.REMOTE_ENDED)
        if channel is None:
            return
        connection = application.connection
        if not (connection.link_credit > 0 and connection.credit(channel) > 0):
            return
        attachments: list[Buffer] = [bytes(size // 2), bytearray(size - size // 2)] if size > 300 else []
        connection.send(channel, bytes(0 if attachments else size), attachments, END if end else 0)

    @rule(side=SIDES, index=FIRST, sizes=st.lists(SIZES, min_size=1, max_size=8))
    def items(self, side: str, index: int, sizes: list[int]) -> None:
        application, channel = self.pick(side, index, S.OPEN, S.REMOTE_ENDED)
        if channel is None:
            return
        run = application.connection.begin_items(channel)
        for size in sizes:
            if run is not None:
                run.add(bytes(size))

    @rule(side=SIDES, index=FIRST)
    def end(self, side: str, index: int) -> None:
        application, channel = self.pick(side, index, S.OPEN, S.REMOTE_ENDED)
        if channel is None:
            return
        application.connection.end(channel)

    @rule(side=SIDES, index=FIRST, size=st.none() | SIZES)
    def close(self, side: str, index: int, size: int | None) -> None:
        application = self.applications[side]
        channels = [n for n in application.theirs if application.connection.channel_state(n) != S.OVER]
        if not channels:
            return
        channel = channels[index % len(channels)]
        connection = application.connection
        if not (size is None or (connection.link_credit > 0 and connection.credit(channel) > 0)):
            return
        connection.close(channel, payload=None if size is None else bytes(size))
        del application.theirs[channel]

    @rule(side=SIDES, index=FIRST)
    def cancel(self, side: str, index: int) -> None:
        application = self.applications[side]
        if not application.mine:
            return
        channel = list(application.mine)[index % len(application.mine)]
        application.connection.cancel(channel, "enough")
        del application.mine[channel]

    @rule(side=SIDES, index=FIRST, halves=st.booleans())
    def take(self, side: str, index: int, halves: bool) -> None:
        application = self.applications[side]
        if not application.held:
            return
        channel, cost = application.held.pop(index % len(application.held))
        if halves:
            application.connection.consumed(channel, cost // 2)
            cost -= cost // 2
        application.connection.consumed(channel, cost)

    @rule(side=SIDES, index=FIRST)
    def give_up_unread(self, side: str, index: int) -> None:
        """An opener whose channel was closed drops what it had not taken."""
        application = self.applications[side]
        unread = list(application.connection._unread)
        if not unread:
            return
        channel = unread[index % len(unread)]
        application.connection.cancel(channel)
        application.held = [entry for entry in application.held if entry[0] != channel]

    @rule(side=SIDES, index=FIRST)
    def finish(self, side: str, index: int) -> None:
        application = self.applications[side]
        if not application.notified:
            return
        channel = application.notified.pop(index % len(application.notified))
        application.connection.finish(channel)
        application.connection.finish(channel)

    @precondition(lambda self: not self.pair.a.leaving or not self.pair.b.leaving)
    @rule(side=SIDES, chance=st.integers(0, 9))
    def leave(self, side: str, chance: int) -> None:
        if chance == 7:
            self.applications[side].connection.leave()

    # -- the wire ----------------------------------------------------------------------------------------

    @rule(side=SIDES, messages=st.integers(1, 3))
    def deliver(self, side: str, messages: int) -> None:
        application = self.applications[side]
        wire = self.pair.wire_to(application.connection)
        application.handle(self.pair.deliver(wire, messages))

    @rule()
    def flush(self) -> None:
        at_a, at_b = self.pair.flush()
        self.applications["a"].handle(at_a)
        self.applications["b"].handle(at_b)

    # -- what is always true -----------------------------------------------------------------------------

    @invariant()
    def accounts_are_consistent(self) -> None:
        for connection in (self.pair.a, self.pair.b):
            check_accounts(connection)
            assert connection.is_open
            assert connection.statistics().channel_violations == 0

    def teardown(self) -> None:
        """Take and end everything: then no credit is missing."""
        if not hasattr(self, "pair"):
            return
        self.flush()
        for _ in range(2):
            for application in self.applications.values():
                connection = application.connection
                for channel, cost in application.held:
                    connection.consumed(channel, cost)
                application.held.clear()
                for channel in application.notified:
                    connection.finish(channel)
                application.notified.clear()
                for channel in list(application.mine):
                    connection.cancel(channel)
                application.mine.clear()
            self.flush()
            for application in self.applications.values():
                for channel in application.theirs:
                    if application.connection.channel_state(channel) != S.OVER:
                        application.connection.close(channel)
                application.theirs.clear()
            self.flush()
        for connection in (self.pair.a, self.pair.b):
            statistics = connection.statistics()
            assert statistics.channels_opened_here == statistics.channels_opened_there == 0
            assert statistics.unconsumed == 0
            other = self.pair.other(connection)
            assert other.link_credit == LINK_WINDOW - connection._incoming.consumed


class BufferedFlowMachine(FlowMachine):
    link_buffer = 700


TestFlow = pytest.mark.slow(FlowMachine.TestCase)
TestBufferedFlow = pytest.mark.slow(BufferedFlowMachine.TestCase)
TestFlow.settings = TestBufferedFlow.settings = machine_settings(examples=80, steps=60)
