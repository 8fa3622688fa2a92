"""Transports: move whole messages between peers; know nothing of what they mean."""

from __future__ import annotations

import re
from typing import Final

from duplex._errors import ConfigurationError
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
from duplex.transports._zmq import ZmqTransport

__all__ = [
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
    "TurnTaker",
    "Turns",
    "ZmqTransport",
    "full_endpoint",
    "take_turns",
    "transport_for",
]

_BY_SCHEME: Final[dict[str, Transport]] = {
    scheme: transport for transport in (ZmqTransport(), MemoryTransport()) for scheme in transport.schemes
}


#: A host, which may be missing, and a port.
_SHORT: Final = re.compile(r"(\[[^]/]+\]|[^]\[:/\s]*):(\d+|\*)")


def full_endpoint(endpoint: str) -> str:
    """Return an endpoint with its scheme: ``127.0.0.1:7700`` is short for ``tcp://127.0.0.1:7700``, and so is
    ``:7700``, for a peer that connects and for one that binds. All else stays as it is."""
    short = _SHORT.fullmatch(endpoint)
    return endpoint if short is None else f"tcp://{short[1] or '127.0.0.1'}:{short[2]}"


def transport_for(endpoint: str) -> Transport:
    """Return the transport of an endpoint's scheme.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    scheme, separator, _ = endpoint.partition("://")
    transport = _BY_SCHEME.get(scheme) if separator else None
    if transport is None:
        known = ", ".join(f"{name}://" for name in sorted(_BY_SCHEME))
        raise ConfigurationError(
            f"{endpoint!r} does not begin with a known scheme; there are {known}, and HOST:PORT is short for tcp://"
        )
    return transport
