"""Texts that say where to look for a service."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from duplex._errors import ConfigurationError
from duplex.resolvers._directory import SCHEME, Directory
from duplex.resolvers._dns import DnsResolver
from duplex.resolvers._endpoint import Endpoint
from duplex.resolvers._file import FileResolver
from duplex.resolvers._host import HostResolver, split_port
from duplex.resolvers._resolver import Resolver
from duplex.resolvers._static import StaticResolver
from duplex.transports import DEFAULT, Transports, full_endpoint

#: The entry points by which packages add schemes.
GROUP: Final = "duplex.resolvers"
_DNS_PORT: Final = 53


def _file(text: str) -> Resolver:
    path = text.removeprefix("file://")
    if not path.startswith("/"):
        raise ConfigurationError(
            f"{text!r} has to name a file by its whole path, such as file:///etc/calc.json"
        )
    return FileResolver(path)


def _host(text: str) -> Resolver:
    return HostResolver(*split_port(text.removeprefix("host://"), text))


def _dns(text: str) -> Resolver:
    server, separator, name = text.removeprefix("dns://").partition("/")
    if not separator or not name:
        raise ConfigurationError(
            f"{text!r} has to be dns:///NAME:PORT, or dns:///_SERVICE._tcp.NAME for SRV records, with the address of a "
            f"name server behind dns:// if it is not to be the system's"
        )
    host, port = server, _DNS_PORT
    if server and (server.count(":") == 1 or (server.startswith("[") and not server.endswith("]"))):
        host, port = split_port(server, text)
    host = host.removeprefix("[").removesuffix("]")
    if name.startswith("_"):
        return DnsResolver(name, nameserver=host, nameserver_port=port)
    return DnsResolver(*split_port(name, text), nameserver=host, nameserver_port=port)


_SCHEMES: Final[Mapping[str, Callable[[str], Resolver]]] = {"file": _file, "host": _host, "dns": _dns}


def is_looked_up(endpoint: object) -> bool:
    """Whether this is the name of a service to look up in a directory, ``discovery://…``, rather than an endpoint to connect."""
    return isinstance(endpoint, str) and endpoint.startswith(f"{SCHEME}://")


def check_linkable(endpoint: object, transports: Transports) -> None:
    """Raise ``ConfigurationError`` if a text says where to look for a service, and is no endpoint to connect to."""
    scheme, separator, _ = endpoint.partition("://") if isinstance(endpoint, str) else ("", "", "")
    if separator and scheme in _SCHEMES and not transports.has(scheme):
        raise ConfigurationError(
            f"{endpoint} says where to look for a service, and is no endpoint to connect to; "
            f"peer.connect_service(service, {endpoint!r}) connects to what is found there"
        )


def resolver_for(
    where: Resolver | str | Iterable[str | Endpoint],
    transports: Transports = DEFAULT,
    directory: Callable[[], Directory] | None = None,
) -> Resolver:
    """Return what says where a service is.

    Args:
        where: a resolver; or endpoints that do not change; or a text, see :mod:`duplex.resolvers`.
        transports: those whose schemes endpoints may have that are given here.
        directory: returns where ``discovery://…`` is looked up.

    Raises:
        ConfigurationError: it is malformed, or has a scheme that is not known; the message lists those that are.
    """
    if isinstance(where, str):
        if is_looked_up(where):
            if directory is None:
                raise ConfigurationError(f"{where} is looked up by a peer: peer.connect_service() does it")
            return directory().resolver(where)
        return _resolver_for_text(where, transports)
    if callable(resolve := getattr(where, "resolve", None)):
        if inspect.iscoroutinefunction(resolve):
            raise ConfigurationError(
                f"{where!r}: resolve(service) must be an `async def` that yields lists of endpoints; it has no `yield`"
            )
        return cast("Resolver", where)
    if isinstance(where, Iterable):
        resolver = StaticResolver(where)
        for endpoint in resolver.endpoints:
            transports.transport_for(endpoint.address)
        return resolver
    raise ConfigurationError(f"a resolver has a method resolve(service); {where!r} has none")


def _resolver_for_text(text: str, transports: Transports) -> Resolver:
    scheme, separator, _ = text.partition("://")
    make = _SCHEMES.get(scheme) if separator else None
    if make is not None:
        return make(text)
    try:
        transports.transport_for(full_endpoint(text))
    except ConfigurationError as error:
        # A program that asks for no such scheme does not load it.
        import importlib.metadata

        for entry in importlib.metadata.entry_points(group=GROUP, name=scheme):
            return cast("Resolver", entry.load()(text))
        added = importlib.metadata.entry_points(group=GROUP).names
        known = ", ".join(f"{name}://" for name in sorted({*_SCHEMES, *added, SCHEME}))
        raise ConfigurationError(f"{error}; services are looked up at {known}") from None
    return StaticResolver([text])
