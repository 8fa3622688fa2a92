"""What goes over one channel of a link: items in and out with their credit, the end, and values that live as long as a call.

The link is known as a :class:`ChannelHost`, and knows those who use its channels as :class:`ChannelUser`.
"""

from __future__ import annotations

from duplex.engine.channels._channel_end import NOTHING as NOTHING
from duplex.engine.channels._channel_end import ChannelEnd as ChannelEnd
from duplex.engine.channels._channel_end import message_bytes as message_bytes
from duplex.engine.channels._channel_end import opening_bytes as opening_bytes
from duplex.engine.channels._credit import CreditShare as CreditShare
from duplex.engine.channels._dropped import Dropped as Dropped
from duplex.engine.channels._host import ChannelHost as ChannelHost
from duplex.engine.channels._host import ChannelOwner as ChannelOwner
from duplex.engine.channels._host import ChannelTable as ChannelTable
from duplex.engine.channels._live_values import FUNCTIONS as FUNCTIONS
from duplex.engine.channels._live_values import CallValues as CallValues
from duplex.engine.channels._live_values import Child as Child
from duplex.engine.channels._live_values import Values as Values
from duplex.engine.channels._nested import BothEnds as BothEnds
from duplex.engine.channels._nested import NestedChannel as NestedChannel
from duplex.engine.channels._nested import ReceiveEnd as ReceiveEnd
from duplex.engine.channels._nested import close_local as close_local
from duplex.engine.channels._overflow import Overflowing as Overflowing
from duplex.engine.channels._overflow import OverflowState as OverflowState
from duplex.engine.channels._returns import CreditReturns as CreditReturns
from duplex.engine.channels._tracked import ResumableStream as ResumableStream
from duplex.engine.channels._tracked import Tracked as Tracked
from duplex.engine.channels._types import Callback as Callback
from duplex.engine.channels._types import Channel as Channel
from duplex.engine.channels._types import ChannelStatistics as ChannelStatistics
from duplex.engine.channels._types import ReceiveChannel as ReceiveChannel
from duplex.engine.channels._types import SendChannel as SendChannel
from duplex.engine.channels._unread import in_short as in_short
from duplex.engine.channels._unread import is_much_unread as is_much_unread
from duplex.engine.channels._user import ChannelUser as ChannelUser

__all__ = (
    "BothEnds",
    "CallValues",
    "Callback",
    "Channel",
    "ChannelHost",
    "ChannelOwner",
    "ChannelStatistics",
    "ChannelTable",
    "ChannelUser",
    "Child",
    "ChannelEnd",
    "CreditReturns",
    "CreditShare",
    "Dropped",
    "FUNCTIONS",
    "NOTHING",
    "NestedChannel",
    "OverflowState",
    "Overflowing",
    "ReceiveChannel",
    "ReceiveEnd",
    "ResumableStream",
    "SendChannel",
    "Tracked",
    "Values",
    "close_local",
    "in_short",
    "is_much_unread",
    "message_bytes",
    "opening_bytes",
)
