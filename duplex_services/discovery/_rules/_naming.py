"""``discovery://…``: which service is meant, where to ask, and what the names of Duplex's services are in the directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from duplex_services.discovery._rules._checking import check_service_name

SCHEME: Final = "discovery://"

#: What the directory is reached with, rather than kept in.
_ENDPOINTS: Final = ("tcp", "tls", "ipc", "zmq+tcp", "zmq+ipc", "inproc", "memory", "ws", "wss")

_SHORT: Final = re.compile(r"(\[[^]/]+\]|[^]\[:/\s]*):(\d+)")

#: What stands for a service's own name in an instance's metadata, where the directory has it under another.
SERVICE_KEY: Final = "duplex.service"
VERSION_KEY: Final = "duplex.version"
PEER_KEY: Final = "duplex.peer"


#: The word for this host's server.
LOCAL: Final = "local"


class Target(msgspec.Struct, frozen=True):
    """What ``discovery://…`` names.

    Attributes:
        service: the service, as Duplex has it; empty for the one that is asked for.
        servers: where to ask; empty for where one asks anyway.
        zone: instances there are preferred.
        metadata: what the instances must have.
    """

    service: str
    servers: tuple[str, ...] = ()
    zone: str = ""
    metadata: dict[str, str] = {}


def read_target(text: str) -> Target:
    """Read ``discovery://NAME``, or ``discovery://HOST:PORT,HOST:PORT/NAME``, each with ``?zone=ZONE&KEY=VALUE``.

    Raises:
        ValueError: it is none; the message says what is right.
    """
    rest, _, query = text.removeprefix(SCHEME).partition("?")
    authority, slash, name = rest.partition("/")
    if not slash:
        authority, name = "", authority
    name = unquote(name)
    if "/" in name or name != name.strip():
        raise ValueError(
            f"{text!r} has to be discovery://NAME, or discovery://HOST:PORT/NAME with the servers to ask, at commas"
        )
    if name:
        listed_name(name)
    servers = []
    for part in authority.split(",") if authority else ():
        if not _SHORT.fullmatch(part):
            raise ValueError(f"{part!r} in {text!r} is no server of discovery: it has to be HOST:PORT")
        servers.append(whole_server(part))
    metadata: dict[str, str] = {}
    zone = ""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError(f"what stands behind ? in {text!r} has to be KEY=VALUE, several at &") from None
    for key, value in pairs:
        if key == "zone":
            zone = value
        else:
            metadata[key] = value
    return Target(name, tuple(servers), zone, metadata)


def listed_name(service: str) -> str:
    """Return the name in the directory of a service of Duplex's, which may have more letters than DNS knows: ``user_store`` is listed as
    ``user-store``.

    Raises:
        ValueError: it has none.
    """
    listed = re.sub(r"[._]+", "-", service).lower().strip("-")
    try:
        return check_service_name(listed)
    except ValueError:
        raise ValueError(
            f"the service {service!r} cannot be listed in discovery: its name has to have up to 63 letters, digits, dashes, dots and "
            f"underscores"
        ) from None


def is_store(server: str) -> bool:
    """Whether this is the URL of a store, rather than the endpoint of a server."""
    scheme, colon, _ = server.partition(":")
    if not colon or _SHORT.fullmatch(server.partition(",")[0].strip()):
        return False
    # The store memory:NAME and the endpoint memory://NAME differ in that.
    return scheme not in _ENDPOINTS or "://" not in server


def whole_server(server: str) -> str:
    """Return the endpoint of a server, of which the scheme may be left out; URLs of stores stay as they are."""
    short = _SHORT.fullmatch(server)
    if short is not None:
        return f"tcp://{short[1] or '127.0.0.1'}:{short[2]}"
    return server


def read_servers(texts: Iterable[str], local: str) -> tuple[str, ...]:
    """Return the servers in texts that have several at their commas, each once. The commas in the URL of a store are its own.

    Args:
        texts: what somebody gave.
        local: what the word ``local`` stands for: this host's server.

    Raises:
        ValueError: there is a store, and something beside it.
    """
    found: list[str] = []
    for text in texts:
        if is_store(text.strip()):
            found.append(text.strip())
        else:
            parts = [part.strip() for part in text.split(",")]
            found += [local if part == LOCAL else whole_server(part) for part in parts if part]
    servers = tuple(dict.fromkeys(found))
    if len(servers) > 1 and any(map(is_store, servers)):
        raise ValueError(f"discovery is asked at servers, or is in one store: {', '.join(servers)} is both")
    return servers
