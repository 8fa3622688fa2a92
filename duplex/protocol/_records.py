"""What a connection remembers of its channels, and the numbers it looks things up with."""

from __future__ import annotations

from typing import Final, TypeAlias, final

import msgspec

from duplex.protocol._flow import ReceiveWindow, SendWindow
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
class ChannelRecord:
    """One channel that is not over."""

    __slots__ = ("id", "incoming", "nested", "outgoing", "state", "table")

    def __init__(
        self, id: int, table: Table, state: int, send_window: int, receive_window: int, nested: bool = False
    ) -> None:
        self.id = id
        self.table = table
        self.state = state
        self.outgoing = SendWindow(send_window)
        self.incoming = ReceiveWindow(receive_window)
        #: It belongs to another channel, and so may begin while a side is leaving.
        self.nested = nested


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
