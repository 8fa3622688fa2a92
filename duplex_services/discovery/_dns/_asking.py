"""What a name below the zone asks for.

=============================  ==========================================================
``SERVICE.ZONE``               all instances that serve
``_SERVICE._PROTOCOL.ZONE``    those that speak a protocol (RFC 2782)
``ID.SERVICE._i.ZONE``         one instance, in whatever state
``leader.SERVICE.ZONE``        who leads
=============================  ==========================================================
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from duplex_services.discovery._model import Instance

_HOST_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Asked(msgspec.Struct, frozen=True):
    """What is asked for.

    Attributes:
        kind: ``zone`` is the zone itself; ``node`` a name that has names below it, and nothing else.
        service: of which service; empty if it is of none.
        detail: the protocol, or the label of the instance.
    """

    kind: Literal["zone", "node", "service", "protocol", "leader", "instance"]
    service: str = ""
    detail: str = ""


def read_name(labels: Sequence[str]) -> Asked | None:
    """Return what a name asks for; ``None`` if names of such a shape are never there.

    Args:
        labels: in lower case, without those of the zone.
    """
    match labels:
        case []:
            return Asked("zone")
        case [one]:
            return Asked("node") if one.startswith("_") else Asked("service", one)
        case ["leader", service] if not service.startswith("_"):
            return Asked("leader", service)
        case [first, second] if first.startswith("_") and second.startswith("_"):
            return Asked("protocol", first[1:], second[1:])
        case [service, "_i"]:
            return Asked("node", service)
        case [id, service, "_i"]:
            return Asked("instance", service, id)
    return None


def id_label(id: str) -> str:
    """Return the label that names an instance: its id, or a hash of it if that is no label of a host's name."""
    if _HOST_LABEL.fullmatch(id):
        return id
    return hashlib.blake2b(id.encode(), digest_size=16).hexdigest()


def find_instance(instances: Iterable[Instance], label: str) -> Instance | None:
    """Return the instance that a label names: also by its id as it is, whatever the case of its letters."""
    similar = None
    for instance in instances:
        if id_label(instance.id) == label:
            return instance
        if similar is None and instance.id.lower() == label:
            similar = instance
    return similar
