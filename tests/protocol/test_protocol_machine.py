"""The whole protocol, handshake included, beside a model of it, under every interleaving Hypothesis thinks of.

Both ends are driven through every action there is, legal or not, at any moment; their messages arrive late,
in any interleaving, and the link may be cut. After every step both are compared with the model of
:mod:`tests.protocol.model`: what was refused, what was sent, what events came, the state and the accounts of
every channel there ever was, and the link's. What one end sends, split into batches as it likes, is what the
model says, but that grants of credit may stand anywhere among the commands of their time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from duplex._errors import RemoteProtocolError
from duplex.protocol import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    Connection,
    CreditReceived,
    EndReceived,
    Event,
    GoawayReceived,
    HelloReceived,
    ItemsReceived,
    LimitsInfo,
    LinkOpened,
    LinkRefused,
    MessageReceived,
    PingReceived,
    PongReceived,
    ServiceInfo,
    ServicesAnnounced,
)
from tests.protocol.helpers import Frames, check_accounts, hello, one_by_one
from tests.protocol.model import (
    CREDIT,
    NOTIFY,
    Broken,
    Channel,
    ModelEnd,
    Refused,
    Terms,
    full,
)
from tests.protocol.profiles import machine_settings

pytestmark = pytest.mark.unmeasured("random conversations of what other tests try one by one")

SIDES = st.sampled_from(["a", "b"])
INDEX = st.integers(0, 7)
#: What is refused is rare, or nothing else would happen.
SIZES = st.sampled_from([0, 0, 1, 20, 20, 100, 100, 300, 1024, 1025])
PAYLOADS = st.none() | SIZES
ATTACHED = st.sampled_from([0] * 8 + [1, 2, 4])
METADATA = st.sampled_from([None] * 6 + [{}, {"k": "v"}, {"k": b"\xff", "trace.id": "x"}, {"k": "x" * 200}])
LIMITS = st.fixed_dictionaries(
    {
        "max_message": st.just(1024),
        "max_attachments": st.sampled_from([0, 3]),
        "max_commands": st.integers(1, 5),
        "max_metadata": st.sampled_from([0, 100, 100]),
        "max_channels": st.sampled_from([5, 5, 2, 1]),
        "channel_window": st.sampled_from([1000, 300, 1000, 1]),
        "link_window": st.sampled_from([9000, 9000, 1000, 9000, 1]),
    }
)
#: How a handshake goes wrong; mostly it does not.
TROUBLE = st.sampled_from([""] * 30 + ["version", "codec", "protocol of a", "protocol of b"])


def plain(event: Event) -> tuple[Any, ...]:
    """An event in the model's words."""
    match event:
        case HelloReceived() | LinkOpened():
            return "greeted", event.remote.peer_id
        case LinkRefused():
            return "refused", event.reason
        case ServicesAnnounced():
            return "services", [{"name": info.name, "version": info.version} for info in event.services]
        case PingReceived():
            return "ping", round(event.delay * 1e6)
        case PongReceived():
            return "pong", round(event.delay * 1e6)
        case GoawayReceived():
            return "goaway", event.reason, event.message
        case ChannelOpened():
            flags = event.end + 2 * event.unary + 4 * event.notify
            rest = (event.timeout, event.metadata, event.parent, event.codec)
            message = (event.payload, tuple(event.attachments), event.cost)
            return "open", event.channel, event.target, flags, *message, *rest
        case MessageReceived():
            return (
                "message",
                event.channel,
                event.payload,
                tuple(event.attachments),
                event.cost,
                event.result,
            )
        case EndReceived():
            return "end", event.channel
        case ChannelClosed():
            outcome = (event.status, event.payload, tuple(event.attachments), event.message)
            return "close", event.channel, *outcome, event.details, event.trailers, event.may_have_executed
        case CancelReceived():
            return "cancel", event.channel, event.reason, event.closed
        case CreditReceived():
            return "credit", event.channel
        case ItemsReceived():
            raise AssertionError("each message is to have an event of its own here")


def unpacked(frames: Frames) -> list[tuple[list[Any], tuple[bytes, ...]]]:
    """The commands of a message in full length, each with its attachments."""
    commands = []
    rest = [bytes(frame) for frame in frames[1:]]
    for command in map(full, msgpack.unpackb(frames[0])):
        count = {7: command[5:6], 8: command[4:5], 10: command[4:5]}.get(command[0], [0])[0]
        commands.append((command, tuple(rest[:count])))
        del rest[:count]
    assert not rest, "attachments that no command takes"
    return commands


@dataclasses.dataclass
class End:
    """A connection, the model of it, and the messages that are on their way to it."""

    connection: Connection
    model: ModelEnd
    arriving: deque[Frames] = dataclasses.field(default_factory=deque)
    #: What the application has not taken, by channel; what became void meanwhile may be taken too.
    held: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def act(self, action: str, *arguments: Any, **options: Any) -> Any:
        """Do the same at the connection and at the model; both refuse, or neither."""
        try:
            expected = getattr(self.model, action)(*arguments, **options)
        except Refused as refused:
            with pytest.raises(refused.errors):
                getattr(self.connection, action)(*arguments, **options)
            return None
        result = getattr(self.connection, action)(*arguments, **options)
        assert result == expected
        return result

    def numbers(self) -> range:
        """The numbers of all channels that ever were, and of one more of either side."""
        return range(1, max(self.model.next_channel, self.model.last_remote + 1) + 2)


class ProtocolMachine(RuleBasedStateMachine):
    ends: dict[str, End]

    @initialize(
        limits=st.tuples(LIMITS, LIMITS),
        json=st.booleans(),
        wide=st.booleans(),
        trouble=TROUBLE,
        at_once=st.sampled_from([True] * 7 + [False]),
    )
    def meet(self, limits: tuple[Any, Any], json: bool, wide: bool, trouble: str, at_once: bool) -> None:
        of_a = Terms("a", limits[0], lowest=1, highest=3 if wide else 1)
        of_b = Terms("b", limits[1])
        if json:
            of_b.codecs = ["json", "msgpack"]
        if trouble == "version":
            of_a.lowest = of_a.highest = 2
        elif trouble == "codec":
            of_b.codecs = ["json"]
        elif trouble:
            (of_a if trouble.endswith("a") else of_b).protocol = "HTTP"
        self.ends = {
            side: End(
                Connection(
                    hello(
                        side,
                        protocol=terms.protocol,
                        lowest_version=terms.lowest,
                        highest_version=terms.highest,
                        codecs=tuple(terms.codecs),
                        limits=LimitsInfo(**terms.limits),
                    ),
                    connecting=side == "a",
                    now=0.0,
                ),
                ModelEnd(terms, connecting=side == "a"),
            )
            for side, terms in (("a", of_a), ("b", of_b))
        }
        if at_once:
            # Most of what there is to see comes after the handshake.
            self.ends["a"].act("greet")
            self._deliver(self.ends["b"], 1)
            self.ends["b"].act("accept")
            self._deliver(self.ends["a"], 1)

    def other(self, end: End) -> End:
        return self.ends["b" if end is self.ends["a"] else "a"]

    # -- the handshake -----------------------------------------------------------------------------------

    @rule(side=SIDES, what=st.sampled_from(["greet", "accept", "announce", "ping", "refuse"]), some=INDEX)
    def talk(self, side: str, what: str, some: int) -> None:
        """What concerns the link; most of it is refused once the link is open."""
        end = self.ends[side]
        arguments: tuple[Any, ...] = ()
        if what == "announce":
            arguments = ([ServiceInfo(f"s{number}", "1.0") for number in range(some)],)
        elif what == "ping":
            arguments = (0.0, some / 8)
        elif what == "refuse":
            arguments = ("limit", "no room")
        if what == "refuse" and some != 5 and end.model.state == "ASKED":
            return
        if len(end.model.tokens) < 60:  # of more pings than 64 the oldest are forgotten
            end.act(what, *arguments)

    @rule(side=SIDES, some=INDEX, reason=st.sampled_from(["draining", "draining", "closing", "tired"]))
    def leave(self, side: str, some: int, reason: str) -> None:
        if some in (3, 6):
            self.ends[side].act("leave", reason, "bye")

    @rule(some=st.integers(0, 63))
    def cut(self, some: int) -> None:
        """The connection is lost with all that was on its way."""
        for end in self.ends.values() if some == 43 else ():
            end.act("terminate")
            end.arriving.clear()
            end.connection.data_to_send()
            end.model.out.clear()

    # -- channels ----------------------------------------------------------------------------------------

    def message(self, size: int | None, attached: int) -> tuple[bytes | None, list[bytes]]:
        """A payload and attachments, of so many bytes together."""
        if size is None:
            return None, []
        pieces = [bytes([number]) * (size // (attached + 1)) for number in range(attached)]
        return b"p" * (size - sum(map(len, pieces))), pieces

    @rule(side=SIDES, size=st.sampled_from([None, 0, 20, 100]), flags=st.sampled_from([0, 0, 1, 5]))
    def call(self, side: str, size: int | None, flags: int) -> None:
        """Open a channel without anything that may be wrong with it."""
        nothing: dict[str, Any] = dict.fromkeys(["timeout", "metadata", "window", "parent", "codec"])
        payload, _ = self.message(size, 0)
        self.ends[side].act("open", "s.m", payload=payload, attachments=[], flags=flags, **nothing)

    @rule(
        side=SIDES,
        method=st.sampled_from(["s.m", 7, None]),
        size=PAYLOADS,
        attached=ATTACHED,
        flags=st.sampled_from([0, 0, 1, 2, 3, 5, 5, NOTIFY]),
        timeout=st.sampled_from([None, 0.0, 0.25]),
        metadata=METADATA,
        window=st.sampled_from([None] * 5 + [0, 1, 250]),
        parent=st.none() | INDEX,
        codec=st.sampled_from([None] * 5 + ["msgpack", "json"]),
    )
    def open(
        self, side: str, method: Any, size: int | None, attached: int, parent: int | None, **options: Any
    ) -> None:
        end = self.ends[side]
        payload, attachments = self.message(size, attached)
        if parent is not None:
            numbers = end.numbers() if parent == 5 else list(end.model.channels)
            parent = numbers[parent % len(numbers)] if numbers else None
        end.act("open", method, payload=payload, attachments=attachments, parent=parent, **options)

    def pick(self, side: str, index: int, fits: Callable[[Channel], bool]) -> tuple[End, int]:
        """A channel that is fit for something, or, rarely or if there is none, any number at all."""
        end = self.ends[side]
        channels = end.model.channels.items()
        numbers: Sequence[int] = [number for number, channel in channels if fits(channel)]
        if not numbers or index == 5:
            numbers = end.numbers()
        return end, numbers[index % len(numbers)]

    @rule(
        side=SIDES,
        index=INDEX,
        size=SIZES,
        attached=ATTACHED,
        flags=st.sampled_from([0, 0, 0, 1, 2, 3]),
    )
    def send(self, side: str, index: int, size: int, attached: int, flags: int) -> None:
        end, number = self.pick(
            side, index, lambda channel: not channel.local_ended and not channel.cancelled
        )
        payload, attachments = self.message(size, attached)
        end.act("send", number, payload, attachments, flags)

    @rule(side=SIDES, index=INDEX, sizes=st.lists(st.integers(0, 1100), min_size=1, max_size=6))
    def items(self, side: str, index: int, sizes: list[int]) -> None:
        """A run takes what a stream may send, and nothing else."""
        end, number = self.pick(side, index, lambda channel: not channel.cancelled)
        model = end.model
        if model.state != "OPEN":
            assert end.connection.begin_items(number) is None
            return
        reserved = model.their_limits["link_window"] // 8
        run = end.connection.begin_items(number)
        for size in sizes:
            payload = bytes(size)
            allowed = False
            with contextlib.suppress(Refused):
                allowed = (
                    model._sending(number).may_send > 0
                    and model.may_send > reserved
                    and size <= model.their_limits["max_message"]
                )
            assert (run is not None and run.add(payload)) == allowed
            if allowed:
                model.send(number, payload, (), 0)

    @rule(side=SIDES, index=INDEX)
    def end(self, side: str, index: int) -> None:
        end, number = self.pick(side, index, lambda channel: not channel.local_ended and index < 4)
        end.act("end", number)

    @rule(
        side=SIDES,
        index=INDEX,
        status=st.sampled_from([0, 0, 5]),
        size=PAYLOADS,
        attached=ATTACHED,
        details=st.sampled_from([None] * 4 + [b"d", b"d" * 900]),
        trailers=METADATA,
    )
    def close(
        self,
        side: str,
        index: int,
        status: int,
        size: int | None,
        attached: int,
        details: bytes | None,
        trailers: Any,
    ) -> None:
        end, number = self.pick(side, index, lambda channel: not channel.mine)
        payload, attachments = self.message(size, attached)
        end.act(
            "close",
            number,
            status,
            payload=payload,
            attachments=attachments,
            message="why",
            details=details,
            trailers=trailers,
        )

    @rule(side=SIDES, index=INDEX)
    def cancel(self, side: str, index: int) -> None:
        end, number = self.pick(side, index, lambda channel: channel.mine)
        end.act("cancel", number, "enough")

    @rule(side=SIDES, index=INDEX, part=st.sampled_from([1, 1, 2]))
    def take(self, side: str, index: int, part: int) -> None:
        """The application takes a message, or half of one, of a channel that may be over."""
        # No `assume()` in any rule: it would give up the whole example, not the step.
        end = self.ends[side]
        if not end.held:
            return
        number, cost = end.held.pop(index % len(end.held))
        end.act("consumed", number, cost // part)
        if part > 1:
            end.held.append((number, cost - cost // part))

    @rule(side=SIDES, index=INDEX)
    def finish(self, side: str, index: int) -> None:
        end = self.ends[side]
        running = list(end.model.notified) or [2]
        end.act("finish", running[index % len(running)])

    # -- the wire ----------------------------------------------------------------------------------------

    def transmit(self, sender: End) -> None:
        """Take what one end sends, which is what its model says."""
        receiver = self.other(sender)
        expected, sender.model.out = sender.model.out, []
        for frames in sender.connection.data_to_send():
            commands = unpacked(frames)
            assert 0 < len(commands) <= receiver.model.terms.limits["max_commands"]
            for command in commands:
                grants = command[0][0] == CREDIT
                place = [item[0][0] == CREDIT for item in expected].index(grants)
                if grants:
                    place = expected.index(command, place)
                assert command == expected.pop(place)
            receiver.arriving.append(frames)
        assert expected == []

    def _deliver(self, receiver: End, messages: int) -> None:
        sender = self.other(receiver)
        self.transmit(sender)
        for _ in range(min(messages, len(receiver.arriving))):
            frames = receiver.arriving.popleft()
            commands = unpacked(frames)
            was_closed = receiver.model.state == "CLOSED"
            expected: list[Any] = []
            try:
                for command in commands[:1] if was_closed else commands:
                    expected += receiver.model.receive(*command, sender.model.terms)
                receiver.model.batch_ended()
            except Broken:
                with pytest.raises(RemoteProtocolError):
                    receiver.connection.receive(frames, 0.0)
                continue
            events = one_by_one(receiver.connection.receive(frames, 0.0))
            assert [plain(event) for event in events] == expected
            receiver.held += [
                (event.channel, event.cost)
                for event in events
                if isinstance(event, ChannelOpened | MessageReceived)
                and event.cost
                and not (isinstance(event, ChannelOpened) and event.notify)
            ]

    @rule(side=SIDES, messages=st.integers(1, 3))
    def deliver(self, side: str, messages: int) -> None:
        self._deliver(self.ends[side], messages)

    @rule()
    def flush(self) -> None:
        """Deliver everything until all is quiet: then both ends agree."""
        a, b = self.ends.values()
        while any((end.arriving, end.connection.has_data_to_send) != (deque(), False) for end in (a, b)):
            self._deliver(a, 1000)
            self._deliver(b, 1000)
        if a.model.state == b.model.state == "OPEN":
            assert a.connection.link_credit == b.model.account.balance
            assert b.connection.link_credit == a.model.account.balance

    # -- what is always true -----------------------------------------------------------------------------

    @invariant()
    def as_the_model_says(self) -> None:
        for end in getattr(self, "ends", {}).values():
            connection, model = end.connection, end.model
            check_accounts(connection)
            statistics = connection.statistics()
            assert statistics.state.name == model.state
            assert (connection.leaving, connection.remote_leaving) == (model.leaving, model.remote_leaving)
            assert connection.can_open == model.can_open
            assert connection.link_credit == statistics.send_credit == model.may_send
            assert statistics.unconsumed == model.account.held
            assert statistics.channels_opened_here == model.opened(here=True)
            assert statistics.channels_opened_there == model.opened(here=False)
            assert statistics.dropped_commands == model.dropped
            assert statistics.channel_violations == 0
            assert connection.has_data_to_send == bool(model.out)
            for number in end.numbers():
                channel = model.channels.get(number)
                assert connection.channel_state(number).name == (channel.state if channel else "OVER")
                assert connection.credit(number) == (channel.may_send if channel else 0)
                assert connection.unconsumed(number) == (channel.account.held if channel else 0)

    def teardown(self) -> None:
        """Take and end everything: then nothing is left, and no credit is missing."""
        if not hasattr(self, "ends"):
            return
        self.flush()
        for _ in range(3):
            for end in self.ends.values():
                for number, cost in end.held:
                    end.act("consumed", number, cost)
                end.held.clear()
                for number in (*end.model.notified, *end.model.unread):
                    with contextlib.suppress(KeyError):
                        end.act("finish", number)
                for number, channel in list(end.model.channels.items()):
                    if channel.mine:
                        end.act("cancel", number, "")
            self.flush()
            for end in self.ends.values():
                for number, channel in list(end.model.channels.items()):
                    if not channel.mine:
                        nothing = {"payload": None, "attachments": (), "details": None, "trailers": None}
                        end.act("close", number, 0, message="", **nothing)
            self.flush()
        for end in self.ends.values():
            if end.model.state == "OPEN":
                assert not end.connection._channels
                assert not end.connection.statistics().unconsumed
                assert not end.connection._unread
                account = end.model.account
                assert account.balance + account.consumed == account.window


TestProtocol = pytest.mark.slow(ProtocolMachine.TestCase)
TestProtocol.settings = machine_settings(examples=100, steps=100)
