"""Transports: move whole messages between peers; know nothing of what they mean.

What is here is for authors of other transports: the contract (:class:`Transport`, :class:`Port`, :class:`Carrier`,
:class:`Turns`, and :class:`Receiver`, which the other side of the seam implements), and those there are. A peer is opened with
``duplex.open_peer(transports=[*default_transports(), Mine()])``. :func:`duplex.testing.check_transport` tries any implementation.
"""

from __future__ import annotations

from typing import Final

from duplex.transports._base import (
    ZERO_COPY_FROM,
    Buffer,
    Carrier,
    CarrierDown,
    EndpointBusy,
    Frames,
    Port,
    Receiver,
    Transport,
    TransportOptions,
    Turns,
    TurnTaker,
    take_turns,
)
from duplex.transports._memory import MemoryTransport
from duplex.transports._schemes import Transports, full_endpoint, scheme_of
from duplex.transports._tls import TLS
from duplex.transports._zmq import ZmqTransport
from duplex.transports.streams import ZmtpTransport

__all__ = [
    "DEFAULT",
    "TLS",
    "ZERO_COPY_FROM",
    "Buffer",
    "Carrier",
    "CarrierDown",
    "EndpointBusy",
    "Frames",
    "MemoryTransport",
    "Port",
    "Receiver",
    "Transport",
    "TransportOptions",
    "Transports",
    "TurnTaker",
    "Turns",
    "ZmqTransport",
    "ZmtpTransport",
    "default_transports",
    "full_endpoint",
    "scheme_of",
    "take_turns",
]

#: Those of a peer that is opened without any being named.
DEFAULT: Final = Transports((ZmtpTransport(), ZmqTransport(), MemoryTransport()))


def default_transports() -> list[Transport]:
    """Return the transports of a peer that is opened without any being named: ``tcp``, ``tls`` and ``ipc``, ``zmq+tcp``, ``zmq+ipc`` and
    ``inproc`` of libzmq, and ``memory``."""
    return list(DEFAULT)
