"""ZMTP 3.1, the protocol of ZeroMQ on a byte stream (RFC 37 of https://rfc.zeromq.org), sans-IO.

Bytes that came go into a :class:`ZmtpConnection`, whole messages come out of it, and so do the bytes that are to be sent. It has
no socket, no clock and no chance, and knows nothing of what messages mean. Peers that speak 3.0 are understood too.
"""

from __future__ import annotations

from duplex.transports.zmtp._bounds import Bounds
from duplex.transports.zmtp._commands import Command, Properties
from duplex.transports.zmtp._connection import ZmtpConnection
from duplex.transports.zmtp._errors import ZmtpError
from duplex.transports.zmtp._frames import LARGE, encode_frame, encode_message
from duplex.transports.zmtp._greeting import ZMTP, Greeting, protocol_of
from duplex.transports.zmtp._mechanism import Mechanism, Null

__all__ = [
    "LARGE",
    "ZMTP",
    "Bounds",
    "Command",
    "Greeting",
    "Mechanism",
    "Null",
    "Properties",
    "ZmtpConnection",
    "ZmtpError",
    "encode_frame",
    "encode_message",
    "protocol_of",
]
