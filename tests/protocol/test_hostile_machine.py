"""An honest end against one whose messages are changed on their way, under interleavings of Hypothesis's choice.

``a`` follows its own connection, but what it sends is now and then repeated, cut short, put together wrongly or
said by a liar. ``b`` is the victim. Nothing but ``RemoteProtocolError`` comes out of it, its accounts hold after
every step, what it sends is what an honest end may send, and once its link is broken nothing is left.
"""

from __future__ import annotations

import contextlib
import random
from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from duplex._errors import LocalProtocolError, MessageTooLarge, RemoteProtocolError, ResourceExhausted
from duplex.protocol import CancelReceived, ChannelClosed, ChannelOpened, ChannelState, MessageReceived
from tests.fuzz.inputs import Mutator
from tests.protocol.helpers import SMALL, ConnectionPair, Frames, check_accounts, hello, one_by_one
from tests.protocol.profiles import machine_settings

pytestmark = pytest.mark.unmeasured("random orders of what other tests try one by one")

#: What either application may meet, as the state has changed since it last looked.
REFUSALS = (LocalProtocolError, MessageTooLarge, ResourceExhausted)
INDEX = st.integers(0, 7)
SIZES = st.sampled_from([0, 20, 100, 300])


class HostileMachine(RuleBasedStateMachine):
    @initialize(small=st.booleans())
    def meet(self, small: bool) -> None:
        limits = SMALL if small else {}
        self.pair = ConnectionPair(hello("a", **limits), hello("b", **limits))
        self.to_b: deque[Frames] = deque()
        self.held: list[tuple[int, int]] = []
        self.theirs: list[int] = []
        self.mine: list[int] = []
        self.ended: set[int] = set()

    # -- what both applications do -------------------------------------------------------------------------

    @rule(side=st.sampled_from("ab"), size=st.none() | SIZES, flags=st.sampled_from([0, 0, 1, 2, 5]))
    def open(self, side: str, size: int | None, flags: int) -> None:
        with contextlib.suppress(*REFUSALS):
            payload = None if size is None else bytes(size)
            channel = getattr(self.pair, side).open("s.m", payload=payload, flags=flags)
            if side == "b" and flags != 5:
                self.mine.append(channel)

    @rule(
        side=st.sampled_from("ab"),
        index=INDEX,
        size=SIZES,
        what=st.sampled_from(["send", "items", "end", "close"]),
    )
    def act(self, side: str, index: int, size: int, what: str) -> None:
        connection = getattr(self.pair, side)
        channels = list(connection._channels) or [1]
        channel = channels[index % len(channels)]
        with contextlib.suppress(*REFUSALS):
            if what == "send":
                connection.send(channel, bytes(size))
            elif what == "items":
                run = connection.begin_items(channel)
                while run is not None and run.add(bytes(size)):
                    pass
            elif what == "end":
                connection.end(channel)
            else:
                connection.close(channel, payload=bytes(size))

    @rule(side=st.sampled_from("ab"), index=INDEX)
    def cancel(self, side: str, index: int) -> None:
        connection = getattr(self.pair, side)
        channels = list(connection._channels) or [1]
        with contextlib.suppress(*REFUSALS):
            connection.cancel(channels[index % len(channels)], "enough")

    @rule(index=INDEX)
    def take(self, index: int) -> None:
        if self.held:
            self.pair.b.consumed(*self.held.pop(index % len(self.held)))

    @rule(some=INDEX)
    def leave(self, some: int) -> None:
        with contextlib.suppress(*REFUSALS):
            if some == 6:
                self.pair.b.leave()

    # -- the wire ------------------------------------------------------------------------------------------

    def collect(self) -> None:
        self.to_b.extend(self.pair.a.data_to_send())

    @rule()
    def honest_answers(self) -> None:
        """What the victim sends must please an honest end that was told nothing but the truth."""
        for frames in self.pair.b.data_to_send():
            with contextlib.suppress(RemoteProtocolError):
                self.pair.a.receive(frames, 0.0)

    @rule(messages=st.integers(1, 3))
    def deliver(self, messages: int) -> None:
        self.collect()
        for _ in range(min(messages, len(self.to_b))):
            self.receive(self.to_b.popleft())

    @rule(
        how=st.sampled_from(["repeat", "lose", "swap", "cut", "change", "change", "change", "invent"]),
        seed=st.integers(0, 2**32),
    )
    def lie(self, how: str, seed: int) -> None:
        """Do something to the next message, or make one up."""
        self.collect()
        mutator = Mutator(random.Random(seed))
        if how == "invent" or not self.to_b:
            self.to_b.appendleft(list(mutator.change_frames([b"\x90"])))
        elif how == "repeat":
            self.to_b.appendleft(self.to_b[0])
        elif how == "lose":
            self.to_b.popleft()
        elif how == "swap":
            self.to_b.rotate(1)
        elif how == "cut":
            first, *rest = self.to_b[0]
            self.to_b[0] = [first[: seed % (len(first) + 1)], *rest[: seed % 2]]
        else:
            self.to_b[0] = list(mutator.change_frames([bytes(frame) for frame in self.to_b[0]]))

    def receive(self, frames: Frames) -> None:
        victim = self.pair.b
        was_closed = victim.is_closed
        try:
            events = one_by_one(victim.receive(frames, 0.0))
        except RemoteProtocolError:
            assert victim.is_closed
            assert not was_closed, "a closed link breaks no more"
            return
        assert not (was_closed and events)
        for event in events:
            match event:
                case ChannelOpened(notify=True):
                    victim.finish(event.channel)
                case ChannelOpened():
                    assert event.channel % 2 == 1
                    assert event.channel not in self.theirs, "a channel begins once"
                    self.theirs.append(event.channel)
                    self.held.append((event.channel, event.cost))
                case MessageReceived():
                    assert event.channel in self.theirs or event.channel in self.mine
                    assert event.channel not in self.ended, "nothing comes on a channel that is over"
                    self.held.append((event.channel, event.cost))
                case ChannelClosed():
                    assert event.channel in self.mine
                    assert event.channel not in self.ended, "a channel ends once"
                    self.ended.add(event.channel)
                case CancelReceived(closed=True):
                    assert victim.channel_state(event.channel) == ChannelState.OVER
                    self.ended.add(event.channel)

    # -- what is always true -------------------------------------------------------------------------------

    @invariant()
    def accounts_hold(self) -> None:
        if hasattr(self, "pair"):
            check_accounts(self.pair.b)

    def teardown(self) -> None:
        """Let everything arrive, take everything, and cut: nothing is left."""
        if not hasattr(self, "pair"):
            return
        self.deliver(1000)
        victim = self.pair.b
        for channel, cost in self.held:
            victim.consumed(channel, cost)
        check_accounts(victim)
        if victim.is_open:
            assert victim.statistics().unconsumed == 0
        victim.data_to_send()
        victim.terminate()
        check_accounts(victim)
        assert victim.receive([b"\x90"], 0.0) == []
        assert not victim.has_data_to_send


TestHostile = pytest.mark.slow(HostileMachine.TestCase)
TestHostile.settings = machine_settings(examples=100, steps=60)
