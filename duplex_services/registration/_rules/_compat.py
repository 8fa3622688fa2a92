"""Ports, addresses, names, ids and tags as Registrator has them, faults included: ``--compat registrator``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duplex_services.registration._model import Binding, Container, Host, Options, Port, Service
from duplex_services.registration._rules._metadata import read_metadata
from duplex_services.registration._rules._naming import compat_image_name
from duplex_services.registration._rules._tags import combine_tags

#: Modes in which a port is told with the host's address.
_OF_HOST: Final = frozenset({"bridge", "default", "host"})

_ANY: Final = "0.0.0.0"


def compat_services(
    container: Container, options: Options, host: Host, tags: str, others: Mapping[str, Container]
) -> tuple[list[Service], list[tuple[Port, str, str]]]:
    """Return the services of a container, and what became of each port: the port, the service's id or nothing, and why.

    Args:
        container: which is running.
        options: what is to be listed.
        host: the machine; its IPv4 address is the one that its name resolves to.
        tags: those of all services.
        others: all containers, by their ids.
    """
    bindings = _bindings(container)
    services: list[Service] = []
    findings: list[tuple[Port, str, str]] = []
    left: dict[Port, Binding] = {}
    for port, binding in sorted(bindings.items()):
        if not options.internal and binding.port == 0:
            findings.append((port, "", f"port {port.number} not published on host"))
        else:
            left[port] = binding
    for port, binding in left.items():
        service, why = _service(container, port, binding, options, host, tags, others, is_group=len(left) > 1)
        if service is not None:
            services.append(service)
        findings.append((port, "" if service is None else service.id, why))
    return services, findings


def _bindings(container: Container) -> dict[Port, Binding]:
    found = {port: Binding(_ANY, port.number) for port in container.exposed}
    for port, bindings in container.published.items():
        found[port] = Binding(bindings[0].address or _ANY, bindings[0].port) if bindings else Binding(_ANY, 0)
    if container.mode not in _OF_HOST:
        inside = next((one.four for one in container.networks if one.name == container.mode), "")
        found = {port: Binding(inside, binding.port) for port, binding in found.items()}
    return found


def _service(
    container: Container,
    port: Port,
    binding: Binding,
    options: Options,
    host: Host,
    tags: str,
    others: Mapping[str, Container],
    *,
    is_group: bool,
) -> tuple[Service | None, str]:
    metadata = read_metadata(container.environment, container.labels, port.number)
    hostname = host.name or binding.address
    outside = options.host_address or (host.four or _ANY if binding.address == _ANY else binding.address)
    if metadata.ignores(compat=True):
        return None, "SERVICE_IGNORE is set"
    name = metadata.get("name")
    if not name and options.explicit:
        return None, "it has no SERVICE_NAME, and --explicit is given"
    name = name or compat_image_name(container.image)
    if is_group and "name" not in metadata.own:
        name += f"-{port.number}"
    address = inside_address(container) if options.internal else outside
    if options.address_label and (value := container.labels.get(options.address_label, "")):
        address = value.rpartition("/")[0] if "/" in value else value
    if container.mode.startswith("container:"):
        pod = others.get(container.mode.partition(":")[2])
        address = address if pod is None else _bridge_address(pod)
    is_udp = port.protocol == "udp"
    id = metadata.get("id") or f"{hostname}:{container.name}:{port.number}" + (":udp" if is_udp else "")
    attributes = {key: value for key, value in metadata.values.items() if key not in ("id", "tags", "name")}
    return (
        Service(
            id=id,
            name=name,
            host=address,
            port=port.number if options.internal else binding.port,
            protocol=port.protocol,
            tags=combine_tags(metadata.get("tags"), tags, "udp" if is_udp else "", compat=True),
            attributes=attributes,
            checks={
                key.removeprefix("check_"): value
                for key, value in attributes.items()
                if key.startswith("check_") and value
            },
            ttl=options.ttl,
            container=container.id,
            container_name=container.name,
            container_hostname=container.hostname,
            inside=port.number,
        ),
        "",
    )


def inside_address(container: Container) -> str:
    """Return a container's own address: the one in Docker's default network, else one of any other, the first by name."""
    addresses = [network.four for network in sorted(container.networks, key=lambda one: one.name)]
    return _bridge_address(container) or next(filter(None, addresses), "")


def _bridge_address(container: Container) -> str:
    # Engines told this as the container's own address, apart from those in networks, until Docker 29.
    return next((network.four for network in container.networks if network.name == "bridge"), "")
