"""What is written: from what is known, and what somebody wants, to a commit that holds only if that is still so."""

from __future__ import annotations

import msgspec

from duplex_services.discovery._model import Health, Mode, Record, Registration
from duplex_services.discovery._rules._keys import encode, instance_key
from duplex_services.discovery._rules._view import View
from duplex_services.store import Condition, missing, unchanged

#: What is said of an instance whose check has not run yet.
NOT_CHECKED = "not checked yet"


class Plan(msgspec.Struct, frozen=True):
    """A commit."""

    puts: dict[str, bytes] = {}
    deletes: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()


def is_full(view: View, most: int) -> bool:
    """Whether a directory has as many instances and services, together, as it may."""
    return len(view) + view.count_of_services >= most


class Owner(msgspec.Struct, frozen=True):
    """A server of discovery, in one of its lives."""

    server: str
    incarnation: str


def record_of(registration: Registration, ttl: float, owner: Owner, old: Record | None) -> Record:
    """Return the record of a registration.

    What an operator said of maintenance outlives a new registration; that it drains was of the one before. An instance that
    is checked is critical until its check says otherwise, unless it was checked before.

    Args:
        registration: what was said, checked.
        ttl: seconds.
        owner: who keeps it.
        old: what was there before.
    """
    health, note = registration.health, ""
    if registration.check is not None:
        same = old is not None and old.check == registration.check and not old.withdrawn
        health, note = (old.health, old.note) if same and old is not None else ("critical", NOT_CHECKED)
    elif old is not None and old.health == health and not old.withdrawn:
        note = old.note
    stays = old is not None and old.mode == "maintenance" and not old.withdrawn
    return Record(
        owner.server,
        owner.incarnation,
        ttl,
        registration.endpoint,
        registration.host,
        registration.port,
        registration.protocol,
        registration.metadata,
        registration.weight,
        registration.zone,
        health,
        registration.check,
        note,
        "maintenance" if stays else "",
        old.mode_note if stays and old is not None else "",
    )


def plan_put(view: View, service: str, id: str, record: Record) -> Plan | None:
    """Return how to write a record; ``None`` if it is there."""
    held = view.held(service, id)
    key = instance_key(service, id)
    is_there = held is not None and not held.instance.suspect and key not in view.unreadable
    if is_there and held is not None and held.record == record:
        return None
    return Plan({key: encode(record)}, when=(as_known(view, key),))


def plan_delete(view: View, service: str, id: str) -> Plan | None:
    """Return how to delete an instance; ``None`` if it is not there."""
    key = instance_key(service, id)
    modified = view.modified_of(key)
    return Plan(deletes=(key,), when=(unchanged(key, modified),)) if modified else None


def with_health(record: Record, health: Health, note: str) -> Record:
    """Return a record with another health."""
    return msgspec.structs.replace(record, health=health, note=note)


def with_mode(record: Record, mode: Mode, note: str) -> Record:
    """Return a record with what an operator says of it."""
    return msgspec.structs.replace(record, mode=mode, mode_note=note if mode else "")


def withdrawn(record: Record, why: str) -> Record:
    """Return the record of an instance that its server is to delete."""
    return msgspec.structs.replace(record, withdrawn=True, note=why)


def as_known(view: View, key: str) -> Condition:
    """Return the condition that a key is as it is known."""
    modified = view.modified_of(key)
    return unchanged(key, modified) if modified else missing(key)
