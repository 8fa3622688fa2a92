"""The directory for who does not speak Duplex: opened here, so that their libraries are loaded only by who has them opened."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

import duplex
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._dns._options import DnsOptions
from duplex_services.discovery._http._options import HttpOptions
from duplex_services.discovery._reading import Reading

if TYPE_CHECKING:
    from duplex_services._shared._http_server import HttpServer
    from duplex_services.discovery._dns._server import DnsFront


@contextlib.asynccontextmanager
async def open_dns(
    reading: Reading, bind: str = "127.0.0.1:7753", options: DnsOptions | None = None
) -> AsyncIterator[DnsFront]:
    """Answer DNS from a directory: ``async with open_dns(directory.reading, "127.0.0.1:7753") as dns``.

    Args:
        reading: what is known.
        bind: ``HOST:PORT`` to listen at, over UDP and TCP; ``:PORT`` is every address of this machine, port 0 a free one.
        options: the zone, for how long answers may be kept, and what else there is to say.

    Raises:
        duplex.ConfigurationError: an option makes no sense, nobody can listen there, or dnspython is not installed.
    """
    try:
        from duplex_services.discovery._dns._server import open_front
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "dns":
            raise
        raise duplex.ConfigurationError(
            "DNS needs the library dnspython, which is not installed: pip install 'duplex-rpc[dns]'"
        ) from error
    async with open_front(reading, bind, options or DnsOptions()) as front:
        yield front


@contextlib.asynccontextmanager
async def open_http(
    directory: Directory,
    bind: str = "127.0.0.1:7710",
    options: HttpOptions | None = None,
    *,
    peer: duplex.Peer | None = None,
    dns: DnsFront | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve a directory through HTTP: ``async with open_http(directory, "127.0.0.1:7710") as http``.

    Args:
        directory: which.
        bind: ``HOST:PORT`` to listen at; ``:PORT`` is every address of this machine, port 0 a free one.
        options: tokens, certificates and limits.
        peer: the one that serves the directory: `/metrics` tells what it has counted too.
        dns: a front for DNS, of which `/metrics` tells what it has done.

    Raises:
        duplex.ConfigurationError: an option makes no sense, nobody can listen there, anybody could change anything, or h11 is
            not installed.
    """
    try:
        from duplex_services.discovery._http._server import open_front
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise duplex.ConfigurationError(
            "HTTP needs the library h11, which is not installed: pip install 'duplex-rpc[http]'"
        ) from error
    async with open_front(directory, bind, options or HttpOptions(), peer, dns) as server:
        yield server


class Fronts(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory is told through besides Duplex.

    Attributes:
        http: where to serve HTTP; empty for nowhere.
        http_options: how.
        http_advertise: URLs where others reach it, if that is not where it listens.
        dns: where to answer DNS; empty for nowhere.
        dns_options: how.
    """

    http: str = ""
    http_options: HttpOptions = HttpOptions()
    http_advertise: tuple[str, ...] = ()
    dns: str = ""
    dns_options: DnsOptions = DnsOptions()


@contextlib.asynccontextmanager
async def open_fronts(
    directory: Directory, fronts: Fronts, peer: duplex.Peer | None = None
) -> AsyncIterator[list[str]]:
    """Tell a directory through what is asked for; gives where: ``http://HOST:PORT`` and ``dns://HOST:PORT``.

    Raises:
        duplex.ConfigurationError: as :func:`open_http` and :func:`open_dns`.
    """
    async with contextlib.AsyncExitStack() as stack:
        front: DnsFront | None = None
        if fronts.dns:
            front = await stack.enter_async_context(
                open_dns(directory.reading, fronts.dns, fronts.dns_options)
            )
        found: list[str] = []
        if fronts.http:
            server = await stack.enter_async_context(
                open_http(directory, fronts.http, fronts.http_options, peer=peer, dns=front)
            )
            scheme = "http" if fronts.http_options.tls is None else "https"
            found += [f"{scheme}://{address}" for address in server.addresses]
        if front is not None:
            found += [f"dns://{address}" for address in front.addresses]
        yield found
