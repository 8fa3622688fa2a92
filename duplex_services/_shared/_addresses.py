"""Where to listen: ``HOST:PORT`` as people write it, and the sockets for it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

import trio

import duplex

#: Ports that are tried until one is free for TCP and for UDP.
_ATTEMPTS: Final = 20

#: Connections that wait to be accepted.
_BACKLOG: Final = 128


def read_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT``, which is every address: an empty host.

    Args:
        text: what somebody wrote.
        default_port: for ``HOST``, ``[IPV6]`` and ``IPV6``; without one these are wrong.

    Raises:
        duplex.ConfigurationError: it is none.
    """
    host, colon, port = text.strip().rpartition(":")
    is_six_alone = text.count(":") > 1 and not text.strip().startswith("[")
    if is_six_alone or port.endswith("]") or not colon:
        host, colon, port = text.strip(), "", ""
    if not colon and default_port is not None:
        port = str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    is_good = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    if not is_good or any(character in host for character in "[]/ ") or not (host or colon):
        raise duplex.ConfigurationError(
            f"{text!r} is no address to use: HOST:PORT, [IPV6]:PORT or :PORT, such as 127.0.0.1:7710"
        )
    return host, int(port)


def show_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_sockets(
    address: str, *, with_udp: bool = False
) -> tuple[list[trio.socket.SocketType], list[trio.socket.SocketType]]:
    """Listen at every address that a host has.

    Args:
        address: where. Port 0 takes a free one, the same for all.
        with_udp: for UDP too.

    Returns:
        The sockets that listen for TCP; those for UDP.

    Raises:
        duplex.ConfigurationError: that is no address, or nobody can listen there; the message says why.
    """
    host, port = read_address(address)
    try:
        found = await trio.socket.getaddrinfo(
            os.fsencode(host) or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise duplex.ConfigurationError(f"cannot listen at {address}: {error}") from error
    for attempt in range(_ATTEMPTS):
        try:
            return await _bind_all(found, port, with_udp=with_udp, skips_families=not host)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS - 1:
                raise duplex.ConfigurationError(
                    f"cannot listen at {address}: {error.strerror or error}"
                ) from error
    raise AssertionError("the last attempt returns or raises")


async def _bind_all(
    found: Sequence[tuple[Any, ...]],
    port: int,
    *,
    with_udp: bool,
    skips_families: bool,
) -> tuple[list[trio.socket.SocketType], list[trio.socket.SocketType]]:
    tcp: list[trio.socket.SocketType] = []
    udp: list[trio.socket.SocketType] = []
    try:
        for family, _, _, _, where in found:
            try:
                await _bind(tcp, family, socket.SOCK_STREAM, (where[0], port, *where[2:]))
            except OSError as error:
                # A machine may have no IPv6, or no IPv4.
                if (
                    skips_families
                    and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
                    and len(found) > 1
                ):
                    continue
                raise
            port = tcp[-1].getsockname()[1]
            if with_udp:
                await _bind(udp, family, socket.SOCK_DGRAM, (where[0], port, *where[2:]))
        if not tcp:
            raise OSError(errno.EADDRNOTAVAIL, "there is no address")
    except BaseException:
        for one in tcp + udp:
            one.close()
        raise
    return tcp, udp


async def _bind(
    into: list[trio.socket.SocketType], family: int, kind: int, where: tuple[object, ...]
) -> None:
    made = trio.socket.socket(family, kind)
    into.append(made)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_STREAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    await made.bind(where)
    if kind == socket.SOCK_STREAM:
        made.listen(_BACKLOG)
