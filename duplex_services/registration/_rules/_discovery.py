"""A service of a container as discovery has it."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from duplex_services.discovery.client import Check, Health, Registration
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._checks import read_duration
from duplex_services.registration._rules._desired import PAUSED, STOPPING

#: Metadata that says whose an instance is, and where it comes from.
OWNER: Final = "registrar"
CONTAINER: Final = "container"
CONTAINER_NAME: Final = "container_name"
TAGS: Final = "tags"

#: Seconds that an instance stays if its registrar is gone, where nothing else is said.
TTL: Final = 10.0

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}")

#: Notes of modes that are the registrar's; all other modes are an operator's, and stay.
OWN_NOTES: Final = frozenset({STOPPING, PAUSED})

#: A call that changes a mode: which method, its note, and whether it takes the mode back.
ModeCall = tuple[Literal["drain", "maintain"], str, bool]


def listed_name(name: str) -> str:
    """Return the name under which discovery has a service: ``user_store`` is ``user-store``.

    Raises:
        ValueError: it cannot have one.
    """
    listed = re.sub(r"[._]+", "-", name).lower().strip("-")
    if not _NAME.fullmatch(listed):
        raise ValueError(
            f"discovery cannot have a service {name!r}: a name has up to 63 letters, digits, dashes, dots and underscores"
        )
    return listed


def registration_of(service: Service, owner: str) -> Registration:
    """Return what discovery is told of a service; its health and mode apart.

    Raises:
        ValueError: discovery cannot have it, and why.
    """
    if not _ID.fullmatch(service.id):
        raise ValueError(
            f"discovery cannot have the id {service.id!r}: up to 100 letters, digits and . _ : @ -, of which the first is a letter or digit"
        )
    metadata = dict(service.attributes)
    if service.tags:
        metadata[TAGS] = ",".join(tag.replace(",", r"\,") for tag in service.tags)
    metadata |= {
        OWNER: owner,
        CONTAINER: service.container[:12],
        CONTAINER_NAME: service.container_name,
    }
    return Registration(
        service.id,
        host=service.host,
        port=service.port,
        protocol=service.protocol,
        metadata=metadata,
        check=check_of(service),
    )


def entry_of(service: Service, owner: str) -> Entry:
    """Return what discovery has of a service.

    Raises:
        ValueError: it cannot have it, and why.
    """
    registration = registration_of(service, owner)
    value = msgspec.json.encode([registration, service.ttl or TTL], order="sorted").decode()
    return Entry(f"{listed_name(service.name)}/{service.id}", owner, value, service.state, service.note)


def check_of(service: Service) -> Check | None:
    """Return the check that discovery makes of a service; ``None`` if its labels ask for none that it can make.

    Raises:
        ValueError: a duration is none.
    """
    said = service.checks
    interval = read_duration(said.get("interval", "10s"))
    timeout = read_duration(said["timeout"]) if "timeout" in said else min(2.0, interval)
    if said.get("http") or said.get("https"):
        scheme = "http" if said.get("http") else "https"
        return Check("http", f"{scheme}://{service.address}{said[scheme]}", interval, timeout)
    if said.get("tcp"):
        return Check("tcp", service.address, interval, timeout)
    if said.get("grpc"):
        return Check("grpc", service.address, interval, timeout)
    if said.get("duplex"):
        return Check("duplex", f"tcp://{service.address}", interval, timeout)
    return None


def health_of(entry: Entry) -> Health:
    """Return the health that discovery is told."""
    return "critical" if entry.state == "critical" else "passing"


def mode_calls(before: Entry | None, after: Entry) -> list[ModeCall]:
    """Return what changes the mode of an instance. What an operator has said is not taken back.

    Args:
        before: what discovery has; ``None`` for nothing.
        after: what it is to have.
    """
    calls: list[ModeCall] = []
    before_mode = "" if before is None or before.note not in OWN_NOTES else before.state
    after_mode = after.state if after.note in OWN_NOTES else ""
    if before is not None and before_mode != after_mode:
        if before_mode == "draining":
            calls.append(("drain", "", True))
        elif before_mode == "maintenance":
            calls.append(("maintain", "", True))
    if before_mode != after_mode:
        if after_mode == "draining":
            calls.append(("drain", after.note, False))
        elif after_mode == "maintenance":
            calls.append(("maintain", after.note, False))
    return calls
