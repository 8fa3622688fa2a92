"""Peers that suit discovery: a server that thousands register at, and a client that is back soon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

import duplex
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._service import discovery_service

#: A registrant whose host is gone is noticed within the timeout, and one that stands still within the longer time; then its TTL begins.
KEEPALIVE: Final = duplex.Keepalive(interval=1.0, timeout=4.0, max_silence=10.0)
#: Who asks has other servers to go to, and takes one that stands still for gone at once.
_ASKING: Final = duplex.Keepalive(interval=1.0, timeout=4.0, max_silence=4.0)

#: Who was registered at a server that restarts is back before its TTL is over twice.
RECONNECT: Final = duplex.Reconnect(initial=0.05, maximum=0.5)

#: Each registrant has a link and a call, and each watcher a call.
_LIMITS: Final = duplex.Limits(max_links=20_000, max_handlers=100_000)


@contextlib.asynccontextmanager
async def open_server(
    directory: Directory, binds: Iterable[str] = (), *, name: str = ""
) -> AsyncIterator[tuple[duplex.Peer, list[str]]]:
    """Serve a directory: ``async with open_server(directory, ["tcp://127.0.0.1:7710"]) as (peer, endpoints)``.

    Args:
        directory: which.
        binds: where to listen.
        name: of the peer, for others; the server's by default.

    Raises:
        BindError: it cannot listen there.
    """
    async with duplex.open_peer(
        services=[discovery_service(directory)],
        name=name or f"discovery {directory.info.name}",
        limits=_LIMITS,
        keepalive=KEEPALIVE,
    ) as peer:
        yield peer, [await peer.bind(endpoint) for endpoint in binds]


@contextlib.asynccontextmanager
async def open_client(*endpoints: str, name: str = "discovery client") -> AsyncIterator[duplex.Peer]:
    """Open a peer to servers of discovery: ``async with open_client("tcp://discovery-1:7710", ...) as peer``.

    It begins at once, whether a server is there or not, and is back soon after one was lost.

    Args:
        endpoints: of the servers; each has the whole directory.
        name: of the peer, for others.
    """
    async with duplex.open_peer(name=name, reconnect=RECONNECT, keepalive=_ASKING, reflection=False) as peer:
        for endpoint in endpoints:
            peer.connect_soon(endpoint)
        yield peer
