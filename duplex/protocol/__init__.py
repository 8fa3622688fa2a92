"""The wire protocol without I/O: ``spec/dmtp.md`` in executable form.

:class:`Connection` is one end of one link. It knows no sockets, no clock and no event loop, so that another
runtime, a proxy, a fuzzer or a test can drive it as well as the engine does.
"""

from __future__ import annotations

from duplex.protocol._commands import (
    END,
    MAX_ENTRIES,
    MAX_INTEGER,
    MAX_NAME,
    MAX_SERVICES,
    MAX_TEXT,
    NOTIFY,
    PROTOCOL_NAME,
    RESULT,
    UNARY,
    VERSIONS,
    Hello,
    LimitsInfo,
    ServiceInfo,
)
from duplex.protocol._connection import FIRST_PROOF, Connection, is_short, limits_info, refusal
from duplex.protocol._events import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    CreditReceived,
    EndReceived,
    Event,
    GoawayReceived,
    HelloReceived,
    ItemsReceived,
    LinkOpened,
    LinkRefused,
    MessageReceived,
    PingReceived,
    PongReceived,
    ServicesAnnounced,
)
from duplex.protocol._flow import MESSAGE_OVERHEAD, NOTIFY_OVERHEAD, most_waiting
from duplex.protocol._outbox import BATCH_BYTES, FRAME_SLACK, ItemRun, max_frame
from duplex.protocol._records import Statistics
from duplex.protocol._states import ChannelState, LinkState

__all__ = (
    "BATCH_BYTES",
    "END",
    "FIRST_PROOF",
    "FRAME_SLACK",
    "MAX_ENTRIES",
    "MAX_INTEGER",
    "MAX_NAME",
    "MAX_SERVICES",
    "MAX_TEXT",
    "MESSAGE_OVERHEAD",
    "NOTIFY",
    "NOTIFY_OVERHEAD",
    "PROTOCOL_NAME",
    "RESULT",
    "UNARY",
    "VERSIONS",
    "CancelReceived",
    "ChannelClosed",
    "ChannelOpened",
    "ChannelState",
    "Connection",
    "CreditReceived",
    "EndReceived",
    "Event",
    "GoawayReceived",
    "Hello",
    "HelloReceived",
    "ItemRun",
    "ItemsReceived",
    "LimitsInfo",
    "LinkOpened",
    "LinkRefused",
    "LinkState",
    "MessageReceived",
    "PingReceived",
    "PongReceived",
    "ServiceInfo",
    "ServicesAnnounced",
    "Statistics",
    "is_short",
    "limits_info",
    "max_frame",
    "most_waiting",
    "refusal",
)
