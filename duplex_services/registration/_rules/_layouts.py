"""Where registries have a service, and how, in Registrator's own layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._checks import consul_check

#: Keys of a Consul service's ``Meta`` that are not attributes: whose it is, and which check it has, as services are listed without.
OWNER: Final = "registrar"
CHECK: Final = "registrar_check"


class Address(msgspec.Struct, frozen=True):
    """Where a registry is.

    Attributes:
        host: its name or address.
        port: its port.
        socket: the path of its Unix socket, instead of both.
        path: what stands behind that, without slashes around it.
    """

    host: str
    port: int
    socket: str = ""
    path: str = ""


def read_url(text: str, port: int) -> Address:
    """Return where a registry is: ``SCHEME://[HOST[:PORT]][/PATH]``, or ``SCHEME-unix:///SOCKET[:/PATH]``.

    Args:
        text: the URL.
        port: if it names none.

    Raises:
        ValueError: it is none.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme.endswith("-unix"):
        socket, _, path = rest.partition(":")
        if socket.startswith("/") and len(socket) > 1:
            return Address("localhost", port, socket, path.strip("/"))
    elif separator:
        parts = urlsplit(text)
        try:
            found = parts.port
        except ValueError:
            found = -1
        if found != -1 and not parts.query and not parts.username:
            return Address(parts.hostname or "127.0.0.1", found or port, "", unquote(parts.path).strip("/"))
    raise ValueError(f"bad adapter uri: {text}")


def key_of(service: Service) -> str:
    """Return the key of a service in a key-value store, below the prefix: ``NAME/ID``.

    Raises:
        ValueError: a part of it is empty or would be several.
    """
    return _joined(service.name, service.id)


def zookeeper_key(service: Service) -> str:
    """Return the path of a service in ZooKeeper, below the base: ``NAME/IP:PORT``.

    Raises:
        ValueError: as :func:`key_of`.
    """
    return _joined(service.name, f"{service.host}:{service.port}")


def zookeeper_value(service: Service) -> str:
    """Return what ZooKeeper is told of a service."""
    told = {
        "Name": service.name,
        "IP": service.host,
        "PublicPort": service.port,
        "PrivatePort": service.inside,
        "ContainerID": service.container_hostname,
        "Tags": list(service.tags),
        "Attrs": service.attributes,
    }
    return msgspec.json.encode(told).decode()


def _joined(name: str, last: str) -> str:
    for part in (name, last):
        if not part or "/" in part:
            raise ValueError(f"{part!r} cannot be a part of a key")
    return f"{name}/{last}"


def skydns_prefix(domain: str) -> str:
    """Return what the keys of a domain begin with: ``skydns/local/cluster`` for ``cluster.local``.

    Raises:
        ValueError: there is no domain.
    """
    labels = [label for label in domain.split(".") if label]
    if not labels:
        raise ValueError("skydns2 needs a domain: skydns2://HOST:PORT/DOMAIN")
    return "/".join(["skydns", *reversed(labels)])


def skydns_value(service: Service) -> str:
    """Return what SkyDNS is told of a service."""
    return msgspec.json.encode({"host": service.host, "port": service.port}).decode()


def consul_service(service: Service, owner: str) -> dict[str, Any]:
    """Return a service as Consul's agent is told it, its check included."""
    body: dict[str, Any] = {
        "ID": service.id,
        "Name": service.name,
        "Port": service.port,
        "Tags": list(service.tags),
        "Address": service.host,
        "Meta": {**service.attributes, OWNER: owner},
    }
    check = consul_check(service)
    if check is not None:
        body["Check"] = check
        digest = hashlib.blake2b(msgspec.json.encode(check, order="sorted"), digest_size=8)
        body["Meta"][CHECK] = digest.hexdigest()
    return body


def consul_entry(told: Mapping[str, Any], state: str = "", note: str = "") -> Entry:
    """Return what Consul has of a service.

    Args:
        told: the service, as the agent lists it or is told it.
        state: ``maintenance`` if it is in that mode.
        note: why.
    """
    meta = dict(told.get("Meta") or {})
    facts = [told.get("Port"), told.get("Tags") or [], told.get("Address"), meta]
    value = msgspec.json.encode([told.get("Service") or told.get("Name"), *facts], order="sorted").decode()
    id = str(told["ID"])
    owner = meta.get(OWNER, "")
    return Entry(id, owner, value, "maintenance" if state == "maintenance" else "passing", note)
