"""Peers that suit discovery: a server that thousands register at, and a client that is back soon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import duplex
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._service import discovery_service

#: Decides who may call what: see :func:`duplex.open_peer`.
Authorize: TypeAlias = Callable[[duplex.Identity, str, duplex.AskedCall], bool | Awaitable[bool]]

#: A registrant whose host is gone is noticed within the timeout, and one that stands still within the longer time; then its TTL begins.
KEEPALIVE: Final = duplex.Keepalive(interval=1.0, timeout=4.0, max_silence=10.0)
#: Who asks has other servers to go to, and takes one that stands still for gone at once.
_ASKING: Final = duplex.Keepalive(interval=1.0, timeout=4.0, max_silence=4.0)

#: Who was registered at a server that restarts is back before its TTL is over twice.
RECONNECT: Final = duplex.Reconnect(initial=0.05, maximum=0.5)

#: Each registrant has a link and a call, and each watcher a call.
_LIMITS: Final = duplex.Limits(max_links=20_000, max_handlers=100_000)


def _anybody(_identity: duplex.Identity, _method: str, _call: duplex.AskedCall) -> bool:
    return True


@contextlib.asynccontextmanager
async def open_server(
    directory: Directory,
    binds: Iterable[str] = (),
    *,
    name: str = "",
    authenticator: duplex.Authenticator | None = None,
    authorize: Authorize | None = None,
    tls: duplex.TLS | None = None,
) -> AsyncIterator[tuple[duplex.Peer, list[str]]]:
    """Serve a directory: ``async with open_server(directory, ["tcp://127.0.0.1:7710"]) as (peer, endpoints)``.

    Args:
        directory: which.
        binds: where to listen.
        name: of the peer, for others; the server's by default.
        authenticator: finds out who others are, see :func:`duplex.open_peer`.
        authorize: decides who may call what, see there; what changes anything requires ``discovery:register`` or
            ``discovery:operate``. ``None``: everyone who reaches it may do everything.
        tls: the certificates of ``tls://`` endpoints.

    Raises:
        BindError: it cannot listen there.
    """
    async with duplex.open_peer(
        services=[discovery_service(directory)],
        name=name or f"discovery {directory.info.name}",
        limits=_LIMITS,
        keepalive=KEEPALIVE,
        authenticator=authenticator,
        authorize=authorize or _anybody,
        tls=tls,
    ) as peer:
        yield peer, [await peer.bind(endpoint) for endpoint in binds]


@contextlib.asynccontextmanager
async def open_client(
    *endpoints: str,
    name: str = "discovery client",
    credentials: bytes | Callable[[str], bytes | None] | None = None,
    tls: duplex.TLS | None = None,
    connect_timeout: float = 10.0,
) -> AsyncIterator[duplex.Peer]:
    """Open a peer to servers of discovery: ``async with open_client("tcp://discovery-1:7710", ...) as peer``.

    It begins at once, whether a server is there or not, and is back soon after one was lost.

    Args:
        endpoints: of the servers; each has the whole directory.
        name: of the peer, for others.
        credentials: what proves to the servers who it is, see :func:`duplex.open_peer`.
        tls: which certificates are trusted at ``tls://`` endpoints, and which one is shown.
        connect_timeout: seconds that calls wait for a link.
    """
    async with duplex.open_peer(
        name=name,
        reconnect=RECONNECT,
        keepalive=_ASKING,
        reflection=False,
        credentials=credentials,
        tls=tls,
        connect_timeout=connect_timeout,
    ) as peer:
        for endpoint in endpoints:
            peer.connect_soon(endpoint)
        yield peer
