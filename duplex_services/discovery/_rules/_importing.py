"""What Consul's catalogue says of services that others have registered there, as instances of ours; and what is to be done about them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from duplex_services.discovery._model import Health, Registration
from duplex_services.discovery._rules._catalogue import IMPORTED, is_a_directorys
from duplex_services.discovery._rules._checking import (
    MAX_NOTE,
    check_registration,
    check_service_name,
)

#: How the names of Consul's checks begin that say that something is in maintenance.
_MAINTENANCE: Final = ("_node_maintenance", "_service_maintenance:")

_WORST: Final[tuple[Health, ...]] = ("critical", "warning", "passing")


class Foreign(msgspec.Struct, frozen=True):
    """An instance that others have registered with Consul.

    Attributes:
        service: of which service.
        said: what Consul says of it.
        note: why it is as it is.
    """

    service: str
    said: Registration
    note: str


def service_name(name: str) -> str | None:
    """Return the name of a service of Consul's as ours are; ``None`` if it can be none."""
    try:
        return check_service_name(name.lower().replace("_", "-"))
    except ValueError:
        return None


def foreign(entries: Iterable[Any]) -> tuple[list[Foreign], dict[str, str]]:
    """Read the entries of a service, as ``/v1/health/service/NAME`` tells them.

    Returns:
        The instances that others have registered; and what makes no sense here, by Consul's ids, with the reason.
    """
    found: list[Foreign] = []
    refused: dict[str, str] = {}
    for entry in entries:
        node, service = entry["Node"], entry["Service"]
        meta = service.get("Meta") or {}
        if is_a_directorys(meta):
            continue
        name = service_name(service["Service"])
        where = f"{node['Node']}:{service['ID']}"
        if name is None:
            refused[where] = f"{service['Service']!r} is no name that DNS has"
            continue
        health, note = _health(entry.get("Checks") or ())
        weight = (service.get("Weights") or {}).get("Passing", 1)
        said = Registration(
            imported_id(where),
            host=service.get("Address") or node.get("Address") or "",
            port=service.get("Port") or 0,
            metadata=_metadata(service.get("Tags") or (), meta, node["Node"]),
            weight=min(max(weight, 0), 65535),
            zone=meta.get("zone", ""),
            health=health,
        )
        try:
            found.append(Foreign(name, check_registration(said), note))
        except ValueError as error:
            refused[where] = str(error)
    return found, refused


def imported_id(where: str) -> str:
    """Return the id of an instance that Consul has."""
    clean = re.sub(r"[^A-Za-z0-9._:@-]", "-", where)
    if clean == where and len(where) <= 80:
        return f"{IMPORTED}{where}"
    return f"{IMPORTED}{clean[:70]}:{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def _metadata(tags: Iterable[str], meta: Mapping[str, str], node: str) -> dict[str, str]:
    found = {"consul-node": node}
    for tag in tags:
        key, _, value = tag.partition("=")
        if key:
            found[key] = value
    return found | dict(meta)


def _health(checks: Iterable[Any]) -> tuple[Health, str]:
    """Return the worst that checks say, and why."""
    worst, note = len(_WORST) - 1, ""
    for check in checks:
        if check["CheckID"].startswith(_MAINTENANCE):
            return "critical", _text(f"maintenance: {check.get('Notes') or ''}".rstrip(": "))
        status = check["Status"]
        rank = _WORST.index(status) if status in _WORST else 0
        if rank < worst:
            worst, note = rank, check.get("Output") or check.get("Name") or ""
    return _WORST[worst], _text(note)


def _text(note: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in note).strip()[:MAX_NOTE]
