"""What is to be listed: a function of what runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from duplex_services.registration._model import (
    Container,
    Desired,
    Finding,
    Host,
    Options,
    Port,
    Service,
    State,
)
from duplex_services.registration._rules._addresses import Place, places
from duplex_services.registration._rules._compat import compat_services
from duplex_services.registration._rules._exits import exit_note, kept_until
from duplex_services.registration._rules._functions import TemplateError, WantedError
from duplex_services.registration._rules._metadata import Metadata, read_metadata
from duplex_services.registration._rules._naming import image_name
from duplex_services.registration._rules._tags import combine_tags
from duplex_services.registration._rules._templates import Template

#: Keys of metadata that say how to list a port; all others are its attributes.
_RESERVED: Final = frozenset({"id", "name", "tags", "ignore", "network", "address"})

_CHECK: Final = "check_"

#: Why a service is listed as something else than passing. Only modes with one of these notes are taken back again.
STOPPING: Final = "the container was told to stop"
PAUSED: Final = "the container is paused"
UNHEALTHY: Final = "the container's health check fails"


def desired(
    containers: Iterable[Container],
    options: Options,
    host: Host,
    *,
    now: float,
    before: Sequence[Service] = (),
    fetched: Mapping[str, bytes] | None = None,
) -> Desired:
    """Return what is to be listed of what runs, and why each port is listed or is not.

    Args:
        containers: all that there are, also those that have ended.
        options: what is to be listed, and how.
        host: the machine.
        now: the time, in seconds since 1970.
        before: what was to be listed last: of a container that has ended, its ports are known from there alone.
        fetched: the contents of addresses that templates ask for.
    """
    ordered = sorted(containers, key=lambda one: (one.created, one.id))
    others = {container.id: container for container in ordered}
    by_container: dict[str, list[Service]] = {}
    for service in before:
        by_container.setdefault(service.container, []).append(service)
    services: dict[tuple[str, str], Service] = {}
    findings: list[Finding] = []
    wanted: list[str] = []
    for container in ordered:
        try:
            found, told = _of_container(
                container, options, host, others, by_container.get(container.id, ()), now, fetched or {}
            )
        except WantedError as error:
            wanted.append(error.args[0])
            kept = by_container.get(container.id, ())
            found, told = list(kept), [_finding(container, None, None, f"{error.args[0]} is not fetched yet")]
        for service in found:
            first = services.setdefault((service.name, service.id), service)
            if first is not service:
                why = (
                    f"{service.name} has {service.id} already: it is of the container {first.container_name}"
                )
                told = [_taken(one, service, why) for one in told]
        findings += told
    return Desired(tuple(services.values()), tuple(findings), tuple(dict.fromkeys(wanted)))


def _taken(finding: Finding, service: Service, why: str) -> Finding:
    if (finding.service, finding.id) != (service.name, service.id):
        return finding
    return msgspec.structs.replace(finding, service="", id="", why=why)


def _of_container(
    container: Container,
    options: Options,
    host: Host,
    others: Mapping[str, Container],
    before: Sequence[Service],
    now: float,
    fetched: Mapping[str, bytes],
) -> tuple[list[Service], list[Finding]]:
    if not container.is_alive:
        return _of_ended(container, options, before, now)
    if not options.compat and container.health == "starting":
        return [], [_finding(container, None, None, "its health check has not passed yet")]
    if not container.exposed and not container.published:
        return [], [_finding(container, None, None, "it exposes no port")]
    try:
        tags = Template(options.tags).render(container.inspected, fetched) if options.tags else ""
    except TemplateError as error:
        return [], [_finding(container, None, None, f"--tags: {error}")]
    if options.compat:
        services, told = compat_services(container, options, host, tags, others)
        by_id = {service.id: service for service in services}
        return services, [_finding(container, port, by_id.get(id), why) for port, id, why in told]
    return _services(container, options, host, others, tags)


def _of_ended(
    container: Container, options: Options, before: Sequence[Service], now: float
) -> tuple[list[Service], list[Finding]]:
    until = kept_until(container, options)
    if until is None or until <= now:
        why = exit_note(container) if container.finished else f"it is {container.status}"
        return [], [_finding(container, None, None, why)]
    kept = [
        msgspec.structs.replace(service, state="critical", note=exit_note(container)) for service in before
    ]
    if not kept:
        return [], [_finding(container, None, None, f"{exit_note(container)}; it was not listed before")]
    return kept, [
        Finding(
            container.id,
            container.name,
            str(Port(service.inside, service.protocol)),
            service.name,
            service.id,
            service.note,
        )
        for service in kept
    ]


def _services(
    container: Container, options: Options, host: Host, others: Mapping[str, Container], tags: str
) -> tuple[list[Service], list[Finding]]:
    findings: list[Finding] = []
    listed: list[tuple[Port, Metadata, tuple[Place, ...]]] = []
    if options.host_address:
        key = "six" if ":" in options.host_address else "four"
        host = msgspec.structs.replace(host, **{key: options.host_address})
    for port in sorted({*container.exposed, *container.published}):
        metadata = read_metadata(container.environment, container.labels, port.number)
        found: tuple[Place, ...] = ()
        if metadata.ignores(compat=False):
            why = "SERVICE_IGNORE is set"
        elif options.explicit and not metadata.get("name"):
            why = "it has no SERVICE_NAME, and --explicit is given"
        elif not metadata.get("name") and not image_name(container.image):
            why = f"its image {container.image!r} has no name: say one with SERVICE_NAME"
        else:
            found, why = places(container, port, metadata, options, host, others)
        if found:
            listed.append((port, metadata, found))
        else:
            findings.append(_finding(container, port, None, why))
    # Ports of one number with two protocols are one service; those with names of their own need no numbers.
    alike = {port.number for port, metadata, _ in listed if not metadata.has_own_name}
    services = [
        _service(container, port, place, metadata, options, tags, is_group=len(alike) > 1)
        for port, metadata, found in listed
        for place in found
    ]
    findings += [
        _finding(container, Port(service.inside, service.protocol), service, service.note)
        for service in services
    ]
    return services, findings


def _service(
    container: Container,
    port: Port,
    place: Place,
    metadata: Metadata,
    options: Options,
    tags: str,
    *,
    is_group: bool,
) -> Service:
    name = metadata.get("name") or image_name(container.image)
    if is_group and not metadata.has_own_name:
        name += f"-{port.number}"
    protocol = "" if port.protocol == "tcp" else port.protocol
    id = metadata.get("id") or "-".join(filter(None, (container.short, str(port.number), protocol)))
    state, note = _state(container)
    said = {key: value for key, value in metadata.values.items() if key not in _RESERVED}
    return Service(
        id=id + place.suffix,
        name=name,
        host=place.host,
        port=place.port,
        protocol=port.protocol,
        tags=combine_tags(metadata.get("tags"), tags, protocol, compat=False),
        attributes={key: value for key, value in said.items() if not key.startswith(_CHECK)},
        checks={
            key.removeprefix(_CHECK): value for key, value in said.items() if key.startswith(_CHECK) and value
        },
        ttl=options.ttl,
        state=state,
        note=note,
        container=container.id,
        container_name=container.name,
        container_hostname=container.hostname,
        inside=port.number,
    )


def _state(container: Container) -> tuple[State, str]:
    if container.is_stopping:
        return "draining", STOPPING
    if container.status == "paused":
        return "maintenance", PAUSED
    if container.health == "unhealthy":
        return "critical", UNHEALTHY
    return "passing", ""


def _finding(container: Container, port: Port | None, service: Service | None, why: str) -> Finding:
    return Finding(
        container.id,
        container.name,
        "" if port is None else str(port),
        "" if service is None else service.name,
        "" if service is None else service.id,
        why,
    )
