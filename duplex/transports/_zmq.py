"""ZeroMQ: ``tcp://``, ``ipc://`` and ``inproc://`` endpoints."""

from __future__ import annotations

import errno
import os
import socket
from typing import final

from duplex._errors import BindError
from duplex.transports._base import Port, Receiver, TransportOptions
from duplex.transports._zmq_dealer import DealerPort
from duplex.transports._zmq_options import SCHEMES, Endpoint, parse_endpoint
from duplex.transports._zmq_router import RouterPort


@final
class ZmqTransport:
    """See :class:`Transport`. A ROUTER socket for each bound port, a DEALER socket for each connection."""

    @property
    def schemes(self) -> frozenset[str]:
        return SCHEMES

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        parsed = parse_endpoint(endpoint, binding=True)
        if parsed.scheme == "ipc":
            _refuse_live_ipc(parsed)
        return RouterPort(parsed, receiver, options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return DealerPort(parse_endpoint(endpoint, binding=False), receiver, options)


def _refuse_live_ipc(endpoint: Endpoint) -> None:
    """Raise BindError if something listens at an ipc path.

    libzmq removes whatever file is in the way, which is right for one that a dead process left behind, but
    would take a living service's clients away.
    """
    if endpoint.name.startswith("@"):
        return  # the kernel itself refuses a second one
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(endpoint.name)
    if error in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise BindError(f"cannot bind {endpoint}: {os.strerror(errno.EADDRINUSE)}")
