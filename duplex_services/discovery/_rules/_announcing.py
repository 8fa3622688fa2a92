"""What servers of discovery tell each other, and those who ask, of where they are reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from duplex_services.discovery._model import ServerInfo

_HTTP = ("http://", "https://")


def announced(bound: Iterable[str], elsewhere: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what a server says of itself to the others.

    Args:
        bound: endpoints and URLs where it listens. Those at every address are left out: nobody gets there by that.
        elsewhere: URLs where others reach its HTTP, if that is not where it listens.
    """
    own = [one for one in bound if not _is_every(one)]
    told = tuple(elsewhere)
    if told:
        own = [one for one in own if not one.startswith(_HTTP)]
    return (*own, *told)


def http_peers(servers: Iterable[ServerInfo], *, is_here: bool) -> list[str]:
    """Return ``HOST:PORT`` of HTTP of all servers, by their names.

    Args:
        servers: all that live.
        is_here: who asks is on the machine of the server that is asked, and so gets to loopback addresses.
    """
    found = [
        endpoint
        for server in sorted(servers, key=lambda one: one.name)
        for endpoint in server.endpoints
        if endpoint.startswith(_HTTP)
    ]
    return [one.partition("://")[2] for one in found if is_here or not is_loopback(_host(one))]


def is_loopback(host: str) -> bool:
    """Whether a host is one of the machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_every(endpoint: str) -> bool:
    try:
        return ipaddress.ip_address(_host(endpoint)).is_unspecified
    except ValueError:
        return _host(endpoint) == "*"


def _host(endpoint: str) -> str:
    """Return the host of an endpoint or a URL; of one without any, such as a path, something that is none."""
    rest = endpoint.partition("://")[2].partition("/")[0]
    return rest.rpartition(":")[0].strip("[]")
