"""The HTTP front."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator

import duplex
from duplex_services._shared._http_server import HttpServer, open_http_server
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._http._handlers import Handlers
from duplex_services.discovery._http._options import HttpOptions
from duplex_services.discovery._http._words import refusal


@contextlib.asynccontextmanager
async def open_front(directory: Directory, bind: str, options: HttpOptions) -> AsyncIterator[HttpServer]:
    """Serve a directory while the block runs; see :func:`~duplex_services.discovery.open_http`."""
    for name, token in (("write_token", options.write_token), ("read_token", options.read_token)):
        if not token.isascii() or not token.isprintable() or " " in token:
            raise duplex.ConfigurationError(f"http {name} has more than printable ASCII without spaces")
    if options.read_token and not options.write_token:
        raise duplex.ConfigurationError(
            "http read_token without a write_token would protect what is read, and not what is changed"
        )
    handlers = Handlers(directory, options)
    async with open_http_server(handlers.handle, bind, refuse=refusal, tls=options.tls) as server:
        beyond = [one for one in server.addresses if not _is_loopback(one)]
        if beyond and not options.write_token and not options.anybody:
            raise duplex.ConfigurationError(
                f"HTTP at {beyond[0]}: everyone who reaches it could register and deregister any instance. Bind to 127.0.0.1, set a "
                "write_token, or say anybody=True if somebody else sees to who gets there"
            )
        handlers.is_local = not beyond and not options.anybody
        yield server


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    return ipaddress.ip_address(host).is_loopback
