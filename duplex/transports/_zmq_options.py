"""Every ZeroMQ option and endpoint rule, in one place to audit.

libzmq's defaults were chosen for a message bus: wait without end, accept any size, never probe. Nearly every
one is wrong for calls, so each option that matters here is set, with its reason beside it, and a test
reads each one back from real sockets.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import re
import tempfile
import uuid
from typing import Final, Literal, TypeAlias

import zmq

from duplex._errors import BindError, ConfigurationError
from duplex.transports._base import TransportOptions

Role: TypeAlias = Literal["dealer", "router"]

SCHEMES: Final = frozenset({"tcp", "ipc", "inproc"})

#: How long after ``close`` a socket still transmits what was handed over, in milliseconds.
LINGER_MS: Final = 1000
#: Messages that wait in this process for one remote end to take them.
SEND_QUEUE: Final = 100_000
#: The largest number that libzmq takes for an option.
_HIGHEST: Final = 2**31 - 1
#: Connections that wait to be accepted: every client of a restarted service comes back at once.
BACKLOG: Final = 1024
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


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed endpoint. ``host`` and ``port`` belong to tcp (an IPv6 host is without its brackets; port 0
    and ``*`` both read as 0), ``name`` to ipc (a path; with ``@`` in front one of Linux's abstract names) and inproc."""

    scheme: str
    host: str = ""
    port: int = 0
    name: str = ""

    def __str__(self) -> str:
        if self.scheme != "tcp":
            return f"{self.scheme}://{self.name}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port or '*'}"


def parse_endpoint(endpoint: str, *, binding: bool) -> Endpoint:
    """Take an endpoint apart and check it.

    Args:
        endpoint: such as ``tcp://host:port``, ``ipc://path`` or ``inproc://name``.
        binding: wildcards (``tcp://*:port``, ``tcp://host:*``, ``ipc://*``, ``inproc://*``) are for
            binding only; ``ipc://*`` and ``inproc://*`` get a unique name here.

    Raises:
        ConfigurationError: with what is wrong and an example of what is right.
        BindError: there is no directory for ``ipc://*``.
    """
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigurationError(
            f"{endpoint!r} is not an endpoint of this transport; write tcp://host:port, ipc://path or inproc://name"
        )
    if scheme == "tcp":
        return _parse_tcp(endpoint, rest, binding)
    if not rest:
        example = "ipc:///run/app.sock" if scheme == "ipc" else "inproc://name"
        raise ConfigurationError(f"{endpoint!r} has nothing after {scheme}://; write for example {example}")
    if "\0" in rest:
        raise ConfigurationError(f"{endpoint!r} contains a NUL character, which no name may")
    if rest == "*":
        if not binding:
            raise ConfigurationError(
                f"{endpoint!r} is for binding; connect to the endpoint that the port got"
            )
        name = f"duplex-{uuid.uuid4().hex}"
        if scheme == "ipc":
            # libzmq's own wildcard makes a directory, in the current one unless TMPDIR is set.
            name = os.path.join(_temporary_directory(), f"{name}.sock")
        return Endpoint(scheme, name=name)
    limit = zmq.IPC_PATH_MAX_LEN if scheme == "ipc" else 255
    size = len(os.fsencode(rest))
    if size > limit:
        raise ConfigurationError(
            f"{endpoint!r}: the name is {size} bytes long, and at most {limit} are possible; use a shorter path"
        )
    return Endpoint(scheme, name=rest)


def _temporary_directory() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # it tries each by making a file, and does not say what came of that
        raise BindError(
            "cannot bind ipc://*: no temporary directory can be used, or no descriptor is left to try one; set "
            "TMPDIR, or bind a path"
        ) from None


_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def _parse_tcp(endpoint: str, rest: str, binding: bool) -> Endpoint:
    def wrong(why: str) -> ConfigurationError:
        return ConfigurationError(f"{endpoint!r}: {why}; write for example {example}")

    example = "tcp://127.0.0.1:5555, or tcp://[::1]:5555"
    host, separator, port_text = rest.rpartition(":")
    if not separator:
        raise wrong("the port is missing")
    if port_text == "*":
        port = 0
    elif port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
        port = int(port_text)
    else:
        raise wrong(f"the port {port_text!r} is not a number from 0 to 65535")
    if port == 0 and not binding:
        raise wrong("a wildcard port is for binding, and connecting needs a real one")
    if host.startswith("[") or host.endswith("]"):
        bare = host[1:-1]
        try:
            ipaddress.IPv6Address(bare if host == f"[{bare}]" else "")
        except ValueError:
            raise wrong(f"{host!r} is not an IPv6 address in brackets") from None
        return Endpoint("tcp", bare, port)
    if host == "*":
        if not binding:
            raise wrong("the host * is for binding, and connecting needs a real one")
    elif ":" in host:
        raise wrong("an IPv6 address needs brackets")
    elif not host:
        raise wrong("the host is missing")
    elif not _HOST.fullmatch(host):
        raise wrong(f"{host!r} is not a host name or an address")
    return Endpoint("tcp", host, port)
