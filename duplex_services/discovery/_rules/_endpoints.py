"""From the instances of a service to the endpoints that a peer connects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import duplex
from duplex_services.discovery._model import Instance
from duplex_services.discovery._rules._naming import SERVICE_KEY, Target

#: Of an endpoint.
_LEAST: Final = 0.001
_MOST: Final = 1000.0

#: Instances that a text about them lists, at most.
_MOST_LISTED: Final = 5


def endpoint_of(instance: Instance) -> str:
    """Return where a peer connects to an instance; empty if that is none of Duplex's."""
    if instance.endpoint:
        return instance.endpoint
    return f"tcp://{instance.address}" if instance.protocol == "duplex" and instance.address else ""


def fits(instance: Instance, target: Target) -> bool:
    """Whether an instance is of the service that is meant, and has what it must have."""
    metadata = instance.metadata
    # Two names may differ in what DNS does not know; the one in the directory itself is right for all.
    if target.service not in ("", instance.service, metadata.get(SERVICE_KEY, target.service)):
        return False
    return all(metadata.get(key) == value for key, value in target.metadata.items())


def endpoints_of(instances: Iterable[Instance], target: Target) -> tuple[duplex.Endpoint, ...]:
    """Return the endpoints of those instances that serve and fit; of those in the zone, if there are any.

    Those of weight 0 are left out as long as there are others.
    """
    chosen = [one for one in instances if one.serves and endpoint_of(one) and fits(one, target)]
    chosen = [one for one in chosen if target.zone and one.zone == target.zone] or chosen
    chosen = [one for one in chosen if one.weight] or chosen
    most = max((one.weight for one in chosen), default=0)
    scale = min(1.0, _MOST / most) if most else 1.0
    found = {
        endpoint_of(one): duplex.Endpoint(
            endpoint_of(one), weight=max(_LEAST, one.weight * scale) if most else 1.0, zone=one.zone
        )
        for one in chosen
    }
    return tuple(found.values())


def why_none(service: str, instances: Iterable[Instance], target: Target, known: Iterable[str]) -> str:
    """Say why a service has no endpoints.

    Args:
        service: its name in the directory.
        instances: all of it, in whatever state.
        target: what was asked for.
        known: the names of all services.
    """
    every = list(instances)
    if not every:
        names = sorted(set(known) - {service})
        there = ", ".join(names[:_MOST_LISTED]) or "none"
        more = f" and {len(names) - _MOST_LISTED} others" if len(names) > _MOST_LISTED else ""
        return f"discovery has no instance of {service!r}; it has {there}{more}"
    said = []
    for one in every[:_MOST_LISTED]:
        if not one.serves:
            said.append(f"{one.id} is {one.state}{f' ({one.note})' if one.note else ''}")
        elif not endpoint_of(one):
            said.append(f"{one.id} speaks {one.protocol}, and has no endpoint")
        else:
            said.append(f"{one.id} is not what was asked for")
    return f"discovery has no instance of {service!r} that takes calls: {', '.join(said)}"
