"""Who leads a service, and how that is written down."""

from __future__ import annotations

from collections.abc import Iterable

from duplex_services.discovery._model import SERVING, Instance, LeaderRecord, ServiceConfig
from duplex_services.discovery._rules._keys import encode, instance_key, leader_key
from duplex_services.discovery._rules._plans import Plan
from duplex_services.store import Condition, exists, missing, unchanged


def due_leader(config: ServiceConfig, current: str, instances: Iterable[Instance]) -> str:
    """Return the id of who is to lead; empty for nobody.

    A leader stays leader while it serves, so that an older one that comes back takes nothing over.

    Args:
        config: of the service.
        current: who leads now; empty for nobody.
        instances: all of the service, the oldest first.
    """
    there = [instance for instance in instances if not instance.suspect]
    if config.leader_type == "manual":
        return config.leader if any(instance.id == config.leader for instance in there) else ""
    serving = [instance.id for instance in there if instance.state in SERVING]
    if current in serving:
        return current
    return serving[0] if serving else ""


def plan_leader(service: str, modified: int, due: str) -> Plan:
    """Return what to write so that somebody leads.

    Args:
        service: which.
        modified: the revision of what is written now; 0 for nothing.
        due: who is to lead; empty for nobody.
    """
    key = leader_key(service)
    when: list[Condition] = [unchanged(key, modified) if modified else missing(key)]
    if not due:
        return Plan(deletes=(key,), when=tuple(when))
    when.append(exists(instance_key(service, due)))
    return Plan(puts={key: encode(LeaderRecord(due))}, when=tuple(when))
