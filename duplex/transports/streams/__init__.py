"""ZMTP over byte streams: ``tcp://``, ``tls://`` and ``ipc://`` endpoints, without libzmq. Any ZeroMQ library can be at the other end."""

from __future__ import annotations

from typing import Final, final

from duplex.transports._base import Port, Receiver, TransportOptions
from duplex.transports._endpoint import parse_endpoint
from duplex.transports.streams._bound import BoundPort
from duplex.transports.streams._connecting import ConnectingPort
from duplex.transports.streams._examining import Examination as Examination

SCHEMES: Final = frozenset({"tcp", "tls", "ipc"})


@final
class ZmtpTransport:
    """See :class:`duplex.transports.Transport`. A bound port is a ROUTER to others, and a connecting one a DEALER.

    It has no thread of its own: what the event loop does not read waits in the kernel, which makes senders wait.
    """

    @property
    def schemes(self) -> frozenset[str]:
        return SCHEMES

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return BoundPort(parse_endpoint(endpoint, binding=True, schemes=SCHEMES), receiver, options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return ConnectingPort(parse_endpoint(endpoint, binding=False, schemes=SCHEMES), receiver, options)
