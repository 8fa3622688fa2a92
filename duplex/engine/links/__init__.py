"""Links: what goes in and out, the handshake, and the end; where they come from; which there are; and how they are looked after."""

from __future__ import annotations

from duplex.engine.links._drain import drain as drain
from duplex.engine.links._keepalive import SlowPeers as SlowPeers
from duplex.engine.links._ports import Ports as Ports
from duplex.engine.links._registry import LinkRegistry as LinkRegistry
from duplex.engine.links._report import CallInfo as CallInfo
from duplex.engine.links._report import calls_of as calls_of
from duplex.engine.links._session import Session as Session
from duplex.engine.links._table import Follower as Follower
from duplex.engine.links._table import LinkTable as LinkTable
from duplex.engine.links._watch import watch_links as watch_links

__all__ = (
    "CallInfo",
    "Follower",
    "LinkRegistry",
    "LinkTable",
    "Ports",
    "Session",
    "SlowPeers",
    "calls_of",
    "drain",
    "watch_links",
)
