"""Where to connect: the addresses behind an endpoint, and a connected socket for one of them."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final, NamedTuple

import trio

from duplex.transports._endpoint import Endpoint
from duplex.transports._listen import tcp_endpoint

#: Seconds for one attempt at a connection: an address that swallows packets fails in time to try the next.
CONNECT_TIMEOUT: Final = 5.0


class Target(NamedTuple):
    """One address that may lead to the remote end."""

    family: int
    address: Any
    #: For error messages.
    text: str


async def targets_of(endpoint: Endpoint) -> list[Target]:
    """Look up the addresses of an endpoint, each once. Raises ``OSError``."""
    if not endpoint.has_host:
        name = endpoint.name
        return [Target(socket.AF_UNIX, f"\0{name[1:]}" if name.startswith("@") else name, str(endpoint))]
    # As bytes, as the interface in an IPv6 address is no name that could be encoded as those of hosts are.
    host = os.fsencode(endpoint.host)
    found = await trio.socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)
    targets = (Target(entry[0], entry[4], str(tcp_endpoint(entry[4], endpoint))) for entry in found)
    return list({target.text: target for target in targets}.values())


class DialError(Exception):
    """There is no connection to an address.

    Args:
        what: what has happened, in a sentence.
        why: why, in a few words.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what)
        self.why = why


async def dial(target: Target) -> socket.socket:
    """Connect. Raises :exc:`DialError`."""
    try:
        wire = trio.socket.socket(target.family, socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(f"cannot make a socket: {error.strerror}", "no socket can be made here") from None
    if target.family == socket.AF_UNIX:
        return _dial_unix(wire, target)
    try:
        with trio.move_on_after(CONNECT_TIMEOUT) as scope:
            await wire.connect(target.address)
        if scope.cancelled_caught:
            why = f"it did not answer within {CONNECT_TIMEOUT:g} s"
            raise DialError(f"{target.text} did not accept the connection: {why}", why)
        if wire.getsockname() == wire.getpeername():
            # Where nothing listens at a port that the kernel hands out, it may hand out just that one.
            raise DialError(_refused(target), os.strerror(errno.ECONNREFUSED).lower())
    except BaseException as error:
        wire.close()
        if isinstance(error, OSError):
            raise _dial_error(target, error) from None
        raise
    return socket.socket(fileno=wire.detach())


def _dial_unix(wire: trio.socket.SocketType, target: Target) -> socket.socket:
    """Connect, for which a Unix socket needs no time. If it cannot at once it is not going to be, and trio would wait for that."""
    raw = socket.socket(fileno=wire.detach())
    try:
        raw.setblocking(False)
        raw.connect(target.address)
    except OSError as error:
        raw.close()
        raise _dial_error(target, error) from None
    return raw


def _dial_error(target: Target, error: OSError) -> DialError:
    # trio says what it connected to, and the kernel's own words are enough.
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    return DialError(_why_not(target, error), why)


def _refused(target: Target) -> str:
    return f"{target.text} did not accept the connection: it was refused (nothing listens there)"


def _why_not(target: Target, error: OSError) -> str:
    if target.family == socket.AF_UNIX:
        if error.errno == errno.ENOENT:
            return f"{target.address} does not exist: nothing is bound there"
        if error.errno == errno.ECONNREFUSED:
            return f"nothing accepts connections at {target.text}"
        if error.errno == errno.EAGAIN:
            return f"{target.text} did not accept the connection: too many wait there to be accepted"
    elif error.errno == errno.ECONNREFUSED:
        return _refused(target)
    return f"{target.text} did not accept the connection: {error.strerror or error}"
