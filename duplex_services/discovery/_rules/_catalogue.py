"""What Consul's catalogue is to say of the instances that a server of discovery keeps, and how that differs from what it says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from duplex_services.discovery._model import Instance

SCHEME: Final = "consul-catalog:"

#: Names of the metadata that say whose an entry is: of which directory, and of which of its servers.
ROOT: Final = "duplex-directory"
_SERVER: Final = "duplex-server"
_STATE: Final = "duplex-state"
_ROOT_BY_DEFAULT: Final = "duplex"

#: What Consul takes of metadata.
_MOST_PAIRS: Final = 60
_MOST_KEY: Final = 128
_MOST_VALUE: Final = 512

#: Seconds after which Consul calls an instance critical of which nobody has said anything, and how often it is said.
CHECK_TTL: Final = 60.0
REFRESH: Final = 20.0


#: How the ids begin of instances that others have registered with Consul.
IMPORTED: Final = "consul:"


class Listed(msgspec.Struct, frozen=True):
    """A service of an agent's, as Consul has it.

    Attributes:
        id: of the service in its agent, and of its check.
        name: of the service.
        address: host or address.
        port: the port.
        tags: the protocol, and ``leader`` of who leads.
        meta: the instance's metadata, as far as Consul takes it, and whose this is.
        weight: for Consul's DNS.
    """

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: dict[str, str]
    weight: int


class Lead(msgspec.Struct, frozen=True):
    """Who leads a service, as the lock of its leader says.

    Attributes:
        directory: that says so.
        id: of the instance.
        address: its host or address.
        port: its port.
        fence: what the leader's writes are to carry.
        check: of the leader in its agent, with which the lock ends.
    """

    directory: str
    id: str
    address: str
    port: int
    fence: int
    check: str


class Said(msgspec.Struct, frozen=True):
    """How an instance is, as Consul has it.

    Attributes:
        status: ``passing``, ``warning`` or ``critical``.
        output: why.
    """

    status: str
    output: str


def split_url(url: str) -> tuple[str, bool]:
    """Return the URL of the store, and whether Consul's catalogue is to have the instances too."""
    if url.startswith(SCHEME):
        return f"consul:{url.removeprefix(SCHEME)}", True
    return url, False


def root_of(address: str) -> str:
    """Return what names a directory within one Consul, whichever of its hosts a server speaks with: the path of its store's address."""
    return urlsplit(address).path.strip("/") or _ROOT_BY_DEFAULT


def listed(one: Instance, root: str, server: str, *, leads: bool) -> Listed | None:
    """Return what Consul is to say of an instance; ``None`` if it has no address that Consul knows, such as a Unix socket, or if Consul
    has it from others.

    Args:
        one: the instance.
        root: the directory, of which there may be several at one agent.
        server: the server of discovery that keeps it.
        leads: whether it leads its service.
    """
    if not one.host or not one.port or one.id.startswith(IMPORTED):
        return None
    pairs = sorted(one.metadata.items())[:_MOST_PAIRS]
    meta = {_key(key): value for key, value in pairs if len(value.encode()) <= _MOST_VALUE}
    meta |= {ROOT: root, _SERVER: server, _STATE: one.state}
    if one.zone:
        meta["zone"] = one.zone
    tags = (one.protocol, "leader") if leads else (one.protocol,)
    return Listed(
        f"duplex:{_digest(root)}:{one.service}:{one.id}",
        one.service,
        one.host,
        one.port,
        tags,
        meta,
        max(1, one.weight),
    )


def _digest(root: str) -> str:
    # Consul would take slashes in an id for those of a path.
    return hashlib.sha256(root.encode()).hexdigest()[:8]


def _key(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", key)[:_MOST_KEY]


def said_of(one: Instance) -> Said:
    """Return how an instance is. Consul knows no draining and no maintenance by somebody else: that is critical, so that its DNS
    does not tell it, and the output says which."""
    if one.state in ("passing", "warning"):
        return Said(one.state, one.note)
    if one.state == "critical":
        return Said("critical", one.note)
    return Said("critical", f"{one.state}: {one.note}" if one.note else one.state)


def registration(one: Listed, said: Said) -> dict[str, Any]:
    """Return the body that registers a service with its agent, and its check."""
    return {
        "ID": one.id,
        "Name": one.name,
        "Address": one.address,
        "Port": one.port,
        "Tags": list(one.tags),
        "Meta": one.meta,
        "Weights": {"Passing": one.weight, "Warning": one.weight},
        "Check": {
            "CheckID": one.id,
            "Name": "what discovery says of it",
            "TTL": f"{CHECK_TTL:g}s",
            "Status": said.status,
            "DeregisterCriticalServiceAfter": "10m",
        },
    }


def lead_of(one: Listed, id: str, fence: int, root: str) -> Lead:
    """Return what the lock of a leader says."""
    return Lead(root, id, one.address, one.port, fence, one.id)


def is_a_directorys(meta: Mapping[str, str]) -> bool:
    """Whether a directory of ours has registered what has this metadata."""
    return ROOT in meta


def read_agent(services: Any, root: str, server: str) -> dict[str, Listed]:
    """Return what an agent says of the instances of a directory that a server keeps; what others have registered is left out."""
    found: dict[str, Listed] = {}
    for entry in (services or {}).values():
        meta = entry.get("Meta") or {}
        if meta.get(ROOT) == root and meta.get(_SERVER) == server:
            weights = entry.get("Weights") or {}
            found[entry["ID"]] = Listed(
                entry["ID"],
                entry["Service"],
                entry.get("Address", ""),
                entry.get("Port", 0),
                tuple(entry.get("Tags") or ()),
                meta,
                weights.get("Passing", 1),
            )
    return found


def difference(wanted: Mapping[str, Listed], there: Mapping[str, Listed]) -> tuple[list[Listed], list[str]]:
    """Return what is to be registered, and the ids of what is to be deregistered."""
    puts = [one for id, one in wanted.items() if there.get(id) != one]
    return puts, [id for id in there if id not in wanted]


def by_id(every: Iterable[tuple[Listed, Said]]) -> tuple[dict[str, Listed], dict[str, Said]]:
    """Return what is to be there, and how it is, by ids."""
    wanted: dict[str, Listed] = {}
    said: dict[str, Said] = {}
    for one, how in every:
        wanted[one.id], said[one.id] = one, how
    return wanted, said
