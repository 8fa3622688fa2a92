"""Transports: move whole messages between peers; know nothing of what they mean."""

from __future__ import annotations

from typing import Final

from duplex._errors import ConfigurationError
from duplex.transports._base import (
    ZERO_COPY_FROM,
    Buffer,
    Carrier,
    CarrierDown,
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
from duplex.transports._zmq import ZmqTransport

__all__ = [
    "ZERO_COPY_FROM",
    "Buffer",
    "Carrier",
    "CarrierDown",
    "Frames",
    "MemoryTransport",
    "Port",
    "Receiver",
    "Transport",
    "TransportOptions",
    "TurnTaker",
    "Turns",
    "ZmqTransport",
    "take_turns",
    "transport_for",
]

_BY_SCHEME: Final[dict[str, Transport]] = {
    scheme: transport for transport in (ZmqTransport(), MemoryTransport()) for scheme in transport.schemes
}


def transport_for(endpoint: str) -> Transport:
    """Return the transport of an endpoint's scheme.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    scheme, separator, _ = endpoint.partition("://")
    transport = _BY_SCHEME.get(scheme) if separator else None
    if transport is None:
        known = ", ".join(f"{name}://" for name in sorted(_BY_SCHEME))
        raise ConfigurationError(f"{endpoint!r} does not begin with a known scheme; there are {known}")
    return transport
