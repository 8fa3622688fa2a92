"""The HTTP front."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import duplex
from duplex_services._shared._http_server import HttpLimits, HttpServer, open_http_server
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._http._handlers import Handlers
from duplex_services.discovery._http._metrics import Metrics
from duplex_services.discovery._http._options import HttpOptions
from duplex_services.discovery._http._words import refusal
from duplex_services.discovery._rules._announcing import is_loopback

if TYPE_CHECKING:
    from duplex_services.discovery._dns._server import DnsFront


@contextlib.asynccontextmanager
async def open_front(
    directory: Directory,
    bind: str,
    options: HttpOptions,
    peer: duplex.Peer | None = None,
    dns: DnsFront | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve a directory while the block runs; see :func:`~duplex_services.discovery.open_http`."""
    for name, token in (("write_token", options.write_token), ("read_token", options.read_token)):
        if not token.isascii() or not token.isprintable() or " " in token:
            raise duplex.ConfigurationError(f"http {name} has more than printable ASCII without spaces")
    if options.read_token and not options.write_token:
        raise duplex.ConfigurationError(
            "http read_token without a write_token would protect what is read, and not what is changed"
        )
    handlers = Handlers(directory, options)
    limits = HttpLimits(waiting=options.streams)
    async with open_http_server(
        handlers.handle, bind, refuse=refusal, limits=limits, tls=options.tls
    ) as server:
        handlers.metrics = Metrics(directory, server, peer, None if dns is None else dns.statistics)
        hosts = {one: one.rpartition(":")[0].strip("[]") for one in server.addresses}
        beyond = [one for one, host in hosts.items() if not is_loopback(host)]
        if beyond and not options.write_token and not options.anybody:
            raise duplex.ConfigurationError(
                f"HTTP at {beyond[0]}: everyone who reaches it could register and deregister any instance. Bind to 127.0.0.1, set a "
                "write_token (--http-write-token), or say anybody=True (--http-anybody) if somebody else sees to who gets there"
            )
        handlers.is_local = not beyond and not options.anybody
        yield server
