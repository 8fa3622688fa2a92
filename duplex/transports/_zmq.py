"""libzmq: ``zmq+tcp://``, ``zmq+ipc://`` and ``inproc://`` endpoints."""

from __future__ import annotations

from typing import Final, final

from duplex.transports._base import Port, Receiver, TransportOptions
from duplex.transports._endpoint import parse_endpoint
from duplex.transports._zmq_dealer import DealerPort
from duplex.transports._zmq_router import RouterPort

SCHEMES: Final = frozenset({"zmq+tcp", "zmq+ipc", "inproc"})


@final
class ZmqTransport:
    """See :class:`Transport`. A ROUTER socket for each bound port, a DEALER socket for each connection."""

    @property
    def schemes(self) -> frozenset[str]:
        return SCHEMES

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return RouterPort(parse_endpoint(endpoint, binding=True, schemes=SCHEMES), receiver, options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return DealerPort(parse_endpoint(endpoint, binding=False, schemes=SCHEMES), receiver, options)
