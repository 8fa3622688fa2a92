"""Every ZeroMQ option, in one place to audit.

libzmq's defaults were chosen for a message bus: wait without end, accept any size, never probe. Nearly every
one is wrong for calls, so each option that matters here is set, with its reason beside it, and a test
reads each one back from real sockets.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final, Literal, TypeAlias

import zmq

from duplex.transports._base import TransportOptions
from duplex.transports._endpoint import Endpoint

Role: TypeAlias = Literal["dealer", "router"]

#: How long after ``close`` a socket still transmits what was handed over, in milliseconds.
LINGER_MS: Final = 1000
#: Messages that wait in this process for one remote end to take them.
SEND_QUEUE: Final = 100_000
#: The largest number that libzmq takes for an option.
_HIGHEST: Final = 2**31 - 1
#: The longest time in tenths of a second whose milliseconds fit into 16 bits.
_MOST_TENTHS: Final = 655
#: One attempt at a TCP connection, in milliseconds.
CONNECT_TIMEOUT_MS: Final = 5000
#: One ZMTP handshake, in milliseconds.
HANDSHAKE_MS: Final = 10_000
#: Longer than any connection attempt is left to libzmq: an hour, in milliseconds.
NEVER_RECONNECT_MS: Final = 3_600_000
#: Sockets of one process. libzmq's default of 1023 is 340 connections, as a monitor takes two sockets.
MAX_SOCKETS: Final = 16_384


@dataclasses.dataclass(frozen=True, slots=True)
class SocketOption:
    """One option with the reason for its value."""

    option: zmq.SocketOption
    value: int
    why: str


def socket_options(role: Role, endpoint: Endpoint, options: TransportOptions) -> tuple[SocketOption, ...]:
    """List what is set on every socket of ``role`` before it binds to or connects to ``endpoint``.

    The options of one scheme do nothing under another, so all are always set.
    """
    interval = _milliseconds(options.heartbeat_interval)
    # libzmq's clock runs from a probe, which may follow the last sign of life by as much as an interval.
    after_probe = _milliseconds(options.heartbeat_timeout - options.heartbeat_interval)
    opt = zmq.SocketOption
    both = (
        SocketOption(
            opt.LINGER,
            LINGER_MS,
            "close() still transmits what was handed over, but a dead peer cannot hold the process (default: without end)",
        ),
        SocketOption(
            opt.MAXMSGSIZE,
            options.max_frame,
            "a stranger cannot make this process allocate more for one frame; its connection is cut (default: no limit)",
        ),
        SocketOption(
            opt.HEARTBEAT_IVL,
            interval,
            "libzmq's own thread probes the connection, so a blocked event loop is not mistaken for a dead "
            "process (default: off)",
        ),
        SocketOption(
            opt.HEARTBEAT_TIMEOUT, after_probe, "a connection silent for this long after a probe is cut"
        ),
        SocketOption(
            opt.HEARTBEAT_TTL,
            _time_to_live(options.heartbeat_timeout),
            "and the other side is asked to cut it by the same rule, if there is room on the wire for the time",
        ),
        SocketOption(
            opt.HANDSHAKE_IVL,
            HANDSHAKE_MS,
            "something that accepts or connects but does not speak ZMTP is cut (default: 30 s)",
        ),
        SocketOption(
            opt.SNDHWM,
            SEND_QUEUE,
            "credit above this layer bounds memory; this only bounds a peer that has stopped reading its "
            "socket altogether, which then counts as down (default 1000 would hit healthy bursts)",
        ),
        SocketOption(
            opt.RCVHWM,
            min(options.receive_queue, _HIGHEST),
            "beyond this libzmq stops reading from the peer, pings and answers included, and either side takes "
            "the other for lost; so it is more than credit lets a peer send while the event loop is stalled, "
            "and only bounds those that break the rules (default 1000 is reached by a stream within seconds)",
        ),
        SocketOption(
            opt.TCP_KEEPALIVE,
            1,
            "a second net below the heartbeats, for a remote end whose ZMTP is older than 3.1 and has none",
        ),
        SocketOption(opt.TCP_KEEPALIVE_IDLE, 60, "seconds; the kernel's default is two hours"),
        SocketOption(opt.TCP_KEEPALIVE_INTVL, 10, "seconds between the kernel's probes"),
        SocketOption(opt.TCP_KEEPALIVE_CNT, 6, "so that a dead host is noticed within two minutes"),
    )
    if role == "router":
        return (
            *both,
            SocketOption(
                opt.ROUTER_MANDATORY,
                1,
                "a message for a remote end that is gone is an error, not silently dropped",
            ),
            SocketOption(
                opt.ROUTER_HANDOVER,
                0,
                "a stranger cannot take over another's connection by naming its routing id",
            ),
        )
    return (
        *both,
        SocketOption(
            opt.RECONNECT_IVL,
            NEVER_RECONNECT_MS,
            "in effect never: each connection gets a fresh socket from the port, because libzmq would carry "
            "queued messages over to the next connection, and would mix the two when reading",
        ),
        SocketOption(opt.IPV6, int(":" in endpoint.host), "IPv6 addresses work (default: IPv4 only)"),
        SocketOption(opt.RECONNECT_IVL_MAX, 0, "no backoff of libzmq's; the port does it"),
        SocketOption(
            opt.IMMEDIATE,
            0,
            "with 1 libzmq drops the pipe of a lost connection together with messages that had already "
            "arrived; nothing is queued for a missing connection anyway, as there is no carrier to send with",
        ),
        SocketOption(
            opt.CONNECT_TIMEOUT,
            CONNECT_TIMEOUT_MS,
            "an address that swallows packets fails in time to try the next (default: the kernel's two minutes)",
        ),
    )


def apply_options(
    socket: zmq.Socket[bytes], role: Role, endpoint: Endpoint, options: TransportOptions
) -> None:
    """Set every option of :func:`socket_options` on a new socket."""
    for entry in socket_options(role, endpoint, options):
        socket.setsockopt(entry.option, entry.value)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _time_to_live(seconds: float) -> int:
    """Return the milliseconds of silence after which the other side shall cut a connection; 0: it decides itself.

    They travel as whole tenths of a second, and libzmq makes milliseconds of them again in 16 bits: 65.6 s would come
    out as 64 ms. Rounded down, they might be shorter than the pause between two signs of life.
    """
    tenths = math.ceil(round(seconds * 10, 6))
    return 100 * tenths if tenths <= _MOST_TENTHS else 0
