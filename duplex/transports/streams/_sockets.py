"""What is done with sockets themselves, and asked of the kernel about them."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import socket
import struct
import termios
import weakref
from typing import Any, Final, Protocol

import trio

from duplex.transports._endpoint import Endpoint
from duplex.transports._listen import tcp_endpoint
from duplex.transports.streams._unsent import ByteStream

#: Linux's number of an option that Python does not name: the longest pause between retransmissions, in milliseconds.
_TCP_RTO_MAX_MS: Final = 44
_RTO_MAX_LIMITS: Final = (1000, 120_000)
#: Probes of an idle connection before it is lost.
_PROBES: Final = 3
_U32: Final = struct.Struct("=I")
_PEER: Final = struct.Struct("=iII")
#: Bytes of a Unix socket that may be on their way; the default makes many short turns.
_UNIX_BUFFER: Final = 1024 * 1024

# -- forks ---------------------------------------------------------------------------------------------------


class Owner(Protocol):
    """What has sockets."""

    def disown(self) -> None:
        """Close them, in a forked child: and not shut them down, which would end the parent's connections."""


#: A forked child has its parent's connections, which would not end as long as it does.
_owners: Final[weakref.WeakSet[Owner]] = weakref.WeakSet()


def own(owner: Owner) -> None:
    """Have the sockets of a port closed in forked children."""
    _owners.add(owner)


def _disown() -> None:
    for owner in list(_owners):
        owner.disown()


os.register_at_fork(after_in_child=_disown)


# -- options -------------------------------------------------------------------------------------------------


def prepare(wire: socket.socket, timeout: float) -> None:
    """Set the options of a connected socket.

    Args:
        wire: the socket.
        timeout: seconds without a sign of life after which the other side's host is gone.
    """
    wire.setblocking(False)
    if wire.family == socket.AF_UNIX:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNIX_BUFFER)
        return
    # A batch is complete when it is sent: there is nothing to wait for.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # An idle connection is probed by the kernel, which answers such probes too while a program does not run.
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, min(32767, int(timeout / (1 + _PROBES))))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    # What is under way is sent again at longer and longer pauses, of up to two minutes. Not so long, a network that is mended
    # is noticed soon; and the kernel gives up after fifteen of them. (TCP_USER_TIMEOUT would end connections to those who do
    # not read for a while, too.)
    low, high = _RTO_MAX_LIMITS
    with contextlib.suppress(OSError):  # before Linux 6.15
        wire.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, max(low, min(high, round(timeout * 1000 / 15))))


class Wire(ByteStream, Protocol):
    """A socket that does not block, or what does as one does."""

    @property
    def family(self) -> int:
        """Such as ``AF_INET``."""

    def fileno(self) -> int:
        """Its descriptor, which tells when to go on."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Ask the kernel about it."""

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more is sent (``SHUT_WR``), or end the connection at once. Raises ``OSError``."""

    def close(self) -> None:
        """Give the descriptor back."""


# -- questions -----------------------------------------------------------------------------------------------


def is_delivered(wire: Wire) -> bool:
    """Whether nothing that was sent can be lost by closing a socket now.

    A TCP socket that is closed while something is unread there, or comes later, resets the connection and forgets what
    is under way to the other side. What that one's kernel has acknowledged stays readable, and so does all that a Unix socket has
    taken.
    """
    if wire.family == socket.AF_UNIX:
        return True
    (waiting,) = _U32.unpack(fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, bytes(4)))
    return not waiting


def describe(wire: socket.socket, address: Any, endpoint: Endpoint) -> str:
    """Return where the other end of an accepted connection is: which host, without its port, as all of a host's connections have
    their limits together; or which process of this one."""
    if wire.family != socket.AF_UNIX:
        # An IPv4 address, seen by a socket for both families, is one.
        host = tcp_endpoint(address).host.removeprefix("::ffff:")
        return f"{endpoint.scheme}://[{host}]" if ":" in host else f"{endpoint.scheme}://{host}"
    try:
        pid, _, _ = _PEER.unpack(wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    except OSError:
        return str(endpoint)
    return f"{endpoint} (pid {pid})"


def time_now() -> float:
    """Return the event loop's time; the distant past where there is none any more, so that nothing is waited for."""
    try:
        return trio.current_time()
    except RuntimeError:
        return -math.inf
