"""Two connections in memory, and a wire between them that a test can stop.

Nothing here knows time or randomness: ``now`` is a field of the pair.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgpack

from duplex.protocol import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    Connection,
    Event,
    Hello,
    ItemsReceived,
    LimitsInfo,
    LinkState,
    MessageReceived,
    max_frame,
)
from duplex.protocol._records import RECV_DATA, RESPONDER_TABLE

Buffer = bytes | bytearray | memoryview
Frames = list[Buffer]


def hello(peer_id: str = "peer", **fields: Any) -> Hello:
    """A ``HELLO``; keyword arguments that are limits go into its limits."""
    limits = {key: fields.pop(key) for key in list(fields) if key in LimitsInfo.__struct_fields__}
    fields = {"protocol": "DMTP", "lowest_version": 1, "highest_version": 1, "peer_id": peer_id, **fields}
    if limits:
        fields["limits"] = LimitsInfo(**limits)
    return Hello(**fields)


def batch(*commands: Any) -> bytes:
    """Frame 0 with commands, written by another msgpack library than the one that reads it."""
    return bytes(msgpack.packb(list(commands), use_bin_type=True))


def commands_of(messages: Sequence[Sequence[Buffer]]) -> list[Any]:
    """All commands of messages, as plain lists."""
    return [command for frames in messages for command in msgpack.unpackb(frames[0])]


def take_commands(connection: Connection) -> list[Any]:
    """What a connection has to send, as plain lists."""
    return commands_of(connection.data_to_send())


def opened(channel: int, target: str | int | None = "s.m", **fields: Any) -> ChannelOpened:
    """The event for a plain OPEN; the cost follows from the message."""
    payload = fields.get("payload")
    attachments = fields.get("attachments", ())
    notify = fields.get("notify", False)
    cost = 0
    if payload is not None:
        cost = len(payload) + sum(map(len, attachments)) + (4096 if notify else 64)
    values: dict[str, Any] = {
        "channel": channel,
        "target": target,
        "end": False,
        "unary": False,
        "notify": False,
        "payload": None,
        "attachments": (),
        "cost": cost,
        "timeout": None,
        "metadata": {},
        "parent": None,
        "codec": "msgpack",
    }
    return ChannelOpened(**{**values, **fields})


def message(
    channel: int, payload: bytes, attachments: Sequence[Buffer] = (), result: bool = False
) -> MessageReceived:
    """The event for DATA."""
    cost = len(payload) + sum(map(len, attachments)) + 64
    return MessageReceived(channel, payload, attachments, cost, result)


def one_by_one(events: Iterable[Event]) -> list[Event]:
    """The same events, with one for each message."""
    single: list[Event] = []
    for event in events:
        single += event.messages() if isinstance(event, ItemsReceived) else [event]
    return single


def closed(channel: int, status: int = 0, **fields: Any) -> ChannelClosed:
    """The event for CLOSE."""
    values: dict[str, Any] = {
        "payload": None,
        "attachments": (),
        "message": "",
        "details": None,
        "trailers": {},
        "may_have_executed": True,
    }
    return ChannelClosed(channel, status, **{**values, **fields})


def check_accounts(connection: Connection) -> None:
    """What must be true of one connection's records at any moment."""
    link = connection._incoming
    channels = connection._channels.values()
    held = sum(record.incoming.unconsumed for record in channels)
    held += sum(connection._unread.values()) + sum(connection._notified.values())
    if connection.is_closed:
        assert not held
        assert not connection._channels
        return
    assert all(cost > 0 for cost in (*connection._unread.values(), *connection._notified.values()))
    limits = connection.local.limits
    assert link.unconsumed == held, "the link holds what its channels hold"
    assert link.balance + (link.unconsumed - link.parked) + link.consumed == limits.link_window
    assert 0 <= link.consumed < link.threshold
    assert not link.consumed or link.consumed < link.balance, "half of what is not held is given back"
    assert link.pinned == sum(connection._notified.values())
    assert 0 <= link.parked <= min(link.buffer, link.unconsumed - link.pinned)
    assert link.unconsumed <= limits.link_window + link.buffer + limits.max_message + 4096, (
        "bounded by window, buffer and one message"
    )
    theirs = [record for record in channels if record.table is RESPONDER_TABLE]
    statistics = connection.statistics()
    assert statistics.channels_opened_there == len(theirs) <= limits.max_channels
    assert statistics.channels_opened_here == len(connection._channels) - len(theirs)
    assert statistics.unconsumed == link.unconsumed
    for record in channels:
        assert record.incoming.unconsumed >= 0
        assert record.incoming.consumed >= 0


def check_agreement(sender: Connection, receiver: Connection) -> None:
    """What must be true of two connections when nothing is on its way between them."""
    if receiver.is_closed or not receiver.is_open:
        return
    assert sender.statistics().send_credit == receiver._incoming.balance
    for channel, record in receiver._channels.items():
        if record.table[record.state][RECV_DATA] >= 0:
            assert sender.credit(channel) == record.incoming.balance, f"credit of channel {channel}"


@dataclasses.dataclass
class Wire:
    """One direction."""

    sender: Connection
    receiver: Connection
    waiting: deque[Frames] = dataclasses.field(default_factory=deque)

    def collect(self) -> None:
        """Take what the sender has to send, checking that it keeps the receiver's limits."""
        for frames in self.sender.data_to_send():
            assert len(frames[0]) <= max_frame(self.receiver.local.limits)
            self.waiting.append(frames)


class ConnectionPair:
    """A connecting and a binding connection. Whatever one sends reaches the other through a wire."""

    def __init__(
        self,
        connecting: Hello | None = None,
        binding: Hello | None = None,
        *,
        handshake: bool = True,
        **bounds: Any,
    ) -> None:
        self.now = 0.0
        self.a = Connection(connecting or hello("a"), connecting=True, now=self.now, **bounds)
        self.b = Connection(binding or hello("b"), connecting=False, now=self.now, **bounds)
        self.to_b = Wire(self.a, self.b)
        self.to_a = Wire(self.b, self.a)
        if handshake:
            self.a.greet()
            self.flush()
            self.b.accept()
            self.flush()
            assert self.a.state == self.b.state == LinkState.OPEN

    def other(self, connection: Connection) -> Connection:
        """The connection at the other end."""
        return self.b if connection is self.a else self.a

    def wire_to(self, connection: Connection) -> Wire:
        """The wire that ends at a connection."""
        return self.to_a if connection is self.a else self.to_b

    def deliver(self, wire: Wire, messages: int | None = None) -> list[Event]:
        """Deliver what waits on one wire, or its first few messages."""
        wire.collect()
        events: list[Event] = []
        for _ in range(len(wire.waiting) if messages is None else min(messages, len(wire.waiting))):
            events += one_by_one(wire.receiver.receive(wire.waiting.popleft(), self.now))
            check_accounts(wire.receiver)
        check_accounts(wire.sender)
        return events

    def flush(self) -> tuple[list[Event], list[Event]]:
        """Deliver everything both ways until all is quiet; return the events at a and at b."""
        at_a: list[Event] = []
        at_b: list[Event] = []
        while True:
            self.to_a.collect()
            self.to_b.collect()
            if not self.to_a.waiting and not self.to_b.waiting:
                break
            at_b += self.deliver(self.to_b)
            at_a += self.deliver(self.to_a)
        check_agreement(self.a, self.b)
        check_agreement(self.b, self.a)
        return at_a, at_b

    def expect(self, *, a: Sequence[Event] = (), b: Sequence[Event] = ()) -> None:
        """Deliver everything; the events at both ends must be exactly these."""
        at_a, at_b = self.flush()
        assert at_a == list(a)
        assert at_b == list(b)

    def inject(self, receiver: Connection, *commands: Any, frames: Sequence[Buffer] = ()) -> list[Event]:
        """Let a connection receive commands that the other one has not sent."""
        events = one_by_one(receiver.receive([batch(*commands), *frames], self.now))
        check_accounts(receiver)
        return events

    def open(self, opener: Connection | None = None, **fields: Any) -> int:
        """Open a channel, by a if not said otherwise, and let it arrive."""
        opener = opener or self.a
        channel = opener.open(fields.pop("target", "s.m"), **fields)
        self.deliver(self.wire_to(self.other(opener)))
        return channel


def cancelled(channel: int, reason: str = "", closed: bool = False) -> CancelReceived:
    """The event for CANCEL."""
    return CancelReceived(channel, reason, closed)


#: Limits that are soon reached.
SMALL = {
    "max_message": 1024,
    "max_attachments": 2,
    "max_commands": 8,
    "max_metadata": 100,
    "max_channels": 3,
    "channel_window": 200,
    "link_window": 2000,
}


def pair_in_use() -> ConnectionPair:
    """A pair with channels in several states, so that garbage has something to hit."""
    pair = ConnectionPair(hello("a", **SMALL), hello("b", **SMALL))
    first = pair.open(payload=b"x")
    second = pair.open(pair.b, payload=b"x")
    third = pair.open()
    pair.a.end(first)
    pair.a.cancel(third)
    pair.b.send(second, b"y")
    pair.a.close(second)
    pair.flush()
    return pair
