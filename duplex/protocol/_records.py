"""What a connection remembers of its channels, and the numbers it looks things up with."""

from __future__ import annotations

from typing import Final, TypeAlias, final

import msgspec

from duplex.protocol._flow import ReceiveWindow, SendWindow, least_grant
from duplex.protocol._states import (
    BINDING_LINK,
    CONNECTING_LINK,
    OPENER,
    RESPONDER,
    ChannelInput,
    ChannelState,
    LinkInput,
    LinkState,
    compile_table,
)

Table: TypeAlias = tuple[tuple[int, ...], ...]

OPENER_TABLE: Final = compile_table(OPENER, ChannelInput)
RESPONDER_TABLE: Final = compile_table(RESPONDER, ChannelInput)
CONNECTING_TABLE: Final = compile_table(CONNECTING_LINK, LinkInput)
BINDING_TABLE: Final = compile_table(BINDING_LINK, LinkInput)

# Plain ints: indexing with enum members costs an attribute look-up each on the hot path.
OVER: Final = int(ChannelState.OVER)
CANCELLING: Final = int(ChannelState.CANCELLING)
LINK_OPEN: Final = int(LinkState.OPEN)
LINK_CLOSED: Final = int(LinkState.CLOSED)
SEND_DATA: Final = int(ChannelInput.SEND_DATA)
SEND_END: Final = int(ChannelInput.SEND_END)
SEND_CLOSE: Final = int(ChannelInput.SEND_CLOSE)
SEND_CANCEL: Final = int(ChannelInput.SEND_CANCEL)
RECV_DATA: Final = int(ChannelInput.RECV_DATA)
RECV_END: Final = int(ChannelInput.RECV_END)
RECV_CLOSE: Final = int(ChannelInput.RECV_CLOSE)
RECV_CANCEL: Final = int(ChannelInput.RECV_CANCEL)


@final
class ChannelRecord(msgspec.Struct, eq=False, gc=False):
    """One channel that is not over. A Struct, as its windows are."""

    id: int
    table: Table
    state: int
    outgoing: SendWindow
    incoming: ReceiveWindow
    #: It belongs to another channel, and so may begin while a side is leaving.
    nested: bool


def new_record(
    id: int, table: Table, state: int, send_window: int, receive_window: int, cost: int, nested: bool = False
) -> ChannelRecord:
    """Return the record of a channel that begins, with windows of so many bytes, and a message of ``cost`` that has come."""
    incoming = ReceiveWindow(receive_window - cost, least_grant(receive_window), cost)
    return ChannelRecord(id, table, state, SendWindow(send_window), incoming, nested)


@final
class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one link's protocol state."""

    #: Where the link stands.
    state: LinkState
    #: Channels that this side opened and that are not over.
    channels_opened_here: int
    #: Channels that the other side opened and that are not over.
    channels_opened_there: int
    #: Bytes this side may still send on the link.
    send_credit: int
    #: Bytes received on the link that the application has not taken yet.
    unconsumed: int
    #: Commands that came for channels that were over.
    dropped_commands: int
    #: Channels broken because the other side went against a rule.
    channel_violations: int
