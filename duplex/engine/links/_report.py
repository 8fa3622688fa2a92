"""What is under way at a peer: the list to read when something seems to hang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, final

import msgspec
import trio

from duplex.engine.links._session import Session
from duplex.engine.links._table import LinkTable


class ReportingPeer(Protocol):
    """The peer."""

    @property
    def table(self) -> LinkTable:
        """Who is linked, and who waits for a link."""

    @property
    def links(self) -> Sequence[Session]:
        """The links that are open."""


@final
class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One call that is under way: a line of :meth:`duplex.Peer.calls`."""

    #: ``"incoming"``: served here; ``"outgoing"``: made here; ``"waiting"``: made here, and there is no link yet.
    direction: Literal["incoming", "outgoing", "waiting"]
    #: ``service.method``; of one that waits, the service.
    method: str
    #: The peer at the other end; empty for one that waits.
    peer: str
    #: Seconds since it began.
    age: float
    #: Seconds until its deadline, which may have passed; ``None`` without one, or if this side does not keep it.
    remaining: float | None = None
    #: Its channel on the link; 0 while it has none.
    channel: int = 0
    #: Bytes that this side may send on the channel now.
    credit: int = 0
    #: Items that came and were not taken, for all of which there may be somebody who does not read.
    unread: int = 0
    #: Tasks of this side that wait for credit.
    waiting_senders: int = 0
    #: Whether the other side's event loop does not answer at present.
    peer_is_slow: bool = False

    def __str__(self) -> str:
        where = {"incoming": "from ", "outgoing": "to ", "waiting": ""}[self.direction] + self.peer
        text = f"{self.age:9.3f} s  {self.direction:8}  {self.method}  {where or 'for a link'}"
        if self.channel:
            text += f"  channel {self.channel}  credit {self.credit}"
        if self.remaining is not None:
            text += f"  deadline in {self.remaining:.3f} s"
        if self.unread:
            text += f"  {self.unread} items unread"
        if self.waiting_senders:
            text += f"  {self.waiting_senders} senders wait for credit"
        if self.peer_is_slow:
            text += "  (peer is slow)"
        return text


def calls_of(peer: ReportingPeer) -> list[CallInfo]:
    """See :meth:`duplex.Peer.calls`."""
    now = trio.current_time()
    found = [
        CallInfo(direction="waiting", method=service, peer="", age=now - since)
        for service, since in peer.table.waiting
    ]
    for link in peer.links:
        channel_ends = {**dict.fromkeys(link.credit.waiters), **dict.fromkeys(link.channels.users.values())}
        for channel_end in channel_ends:
            if channel_end.is_value:
                continue  # part of another call
            deadline = channel_end.deadline
            found.append(
                CallInfo(
                    direction="outgoing" if channel_end.opener else "incoming",
                    method=channel_end.method,
                    peer=link.peer_name,
                    age=now - channel_end.started,
                    remaining=None if deadline is None else deadline - now,
                    channel=channel_end.channel,
                    credit=link.connection.credit(channel_end.channel),
                    unread=channel_end.queued,
                    waiting_senders=channel_end.waiting_senders,
                    peer_is_slow=link.keeper.is_slow,
                )
            )
    return sorted(found, key=lambda call: -call.age)
