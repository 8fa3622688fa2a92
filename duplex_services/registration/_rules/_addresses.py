"""Where a port of a container is reached by others."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import msgspec

from duplex_services.registration._model import PROCESS, Container, Host, Network, Options, Port
from duplex_services.registration._rules._metadata import Metadata, labelled_ports

_ANY_FOUR: Final = frozenset({"", "0.0.0.0"})
_ANY_SIX: Final = "::"

#: What ends the id of a port's second family, where it has both.
SIX: Final = "-v6"

#: ``SERVICE_ADDRESS`` for the address at which a port is published, be it this host's alone.
PUBLISHED: Final = "published"


class Place(msgspec.Struct, frozen=True):
    """An address and a port to connect to.

    Attributes:
        host: the address.
        port: the port.
        suffix: what sets its id apart from the port's other place.
    """

    host: str
    port: int
    suffix: str = ""


def places(
    container: Container,
    port: Port,
    metadata: Metadata,
    options: Options,
    host: Host,
    others: Mapping[str, Container],
) -> tuple[tuple[Place, ...], str]:
    """Return where a port is reached, and if it is nowhere, why.

    Args:
        container: whose port it is.
        port: which.
        metadata: what is said of it.
        options: what is to be listed.
        host: the machine.
        others: all containers, by their ids.
    """
    found, why = _found(container, port, metadata, options, host, others)
    wanted = metadata.get("address")
    if options.address_label and (value := container.labels.get(options.address_label, "")):
        wanted = value.rpartition("/")[0] or value
    if found and wanted and wanted != PUBLISHED:
        found = (msgspec.structs.replace(found[0], host=wanted, suffix=""),)
    return found, why


def _found(
    container: Container,
    port: Port,
    metadata: Metadata,
    options: Options,
    host: Host,
    others: Mapping[str, Container],
) -> tuple[tuple[Place, ...], str]:
    if container.mode == "none":
        return (), "the container has no network"
    if container.mode in ("host", PROCESS):
        return _in_host(container, port, metadata, options, host)
    if container.mode.startswith("container:"):
        owner = others.get(container.mode.partition(":")[2])
        if owner is None:
            return (
                (),
                f"the container {container.mode.partition(':')[2][:12]}, whose network it uses, is not there",
            )
        if owner.mode.startswith("container:"):
            return (), "it uses the network of a container that uses another one's"
        if owner.mode == "host":
            return _in_host(container, port, metadata, options, host)
        if owner.published.get(port) and not options.internal:
            return _published(owner, port, metadata, host)
        return _inside(owner, port, metadata, options)
    if options.internal or metadata.get("network"):
        return _inside(container, port, metadata, options)
    return _published(container, port, metadata, host)


def _in_host(
    container: Container, port: Port, metadata: Metadata, options: Options, host: Host
) -> tuple[tuple[Place, ...], str]:
    is_labelled = port.number in labelled_ports(container.environment, container.labels)
    is_only = len(container.exposed) == 1 and metadata.get("name") != ""
    is_meant = is_labelled or is_only or container.mode == PROCESS
    if options.host_ports == "labelled" and not is_meant:
        return (), (
            f"the container is in the host's network, and no SERVICE_{port.number}_... speaks of this port "
            "(--host-ports=exposed lists all)"
        )
    address = host.four or host.six
    if not address:
        return (), "this host has no address to tell others (--advertise)"
    return (Place(address, port.number),), ""


def _published(
    container: Container, port: Port, metadata: Metadata, host: Host
) -> tuple[tuple[Place, ...], str]:
    bindings = container.published.get(port, ())
    if not bindings:
        return (), "it is not published (-p), and --internal is not given"
    takes_all = metadata.get("address") == PUBLISHED
    found: dict[str, Place] = {}
    reasons: list[str] = []
    for binding in bindings:
        address = binding.address
        if address in _ANY_FOUR:
            address, reason = host.four, "this host has no IPv4 address to tell others (--advertise)"
        elif address == _ANY_SIX:
            address, reason = host.six, "this host has no IPv6 address to tell others (--advertise)"
        elif _is_loopback(address) and not takes_all:
            address, reason = (
                "",
                f"it is published on loopback only (SERVICE_ADDRESS={PUBLISHED} lists it so)",
            )
        else:
            reason = ""
        if not address:
            reasons.append(reason)
            continue
        suffix = SIX if ":" in address and "" in found else ""
        # Of one family the first is enough: Docker publishes a port several times only where it was told to.
        found.setdefault(suffix, Place(address, binding.port, suffix))
    return tuple(found.values()), "" if found else reasons[0]


def _inside(
    container: Container, port: Port, metadata: Metadata, options: Options
) -> tuple[tuple[Place, ...], str]:
    network, why = choose_network(container, metadata.get("network"), options.networks)
    if network is None:
        return (), why
    found = [Place(address, port.number) for address in network.addresses]
    if not found:
        return (), f"the container has no address in the network {network.name}"
    return (found[0], *(msgspec.structs.replace(place, suffix=SIX) for place in found[1:])), ""


def choose_network(
    container: Container, wanted: str, preferred: tuple[str, ...]
) -> tuple[Network | None, str]:
    """Return the network of which a container's address is told; or why there is none.

    Args:
        container: whose address it is.
        wanted: what its label says; empty if it says nothing.
        preferred: those to take, the first one first.
    """
    by_name = {network.name: network for network in container.networks}
    names = ", ".join(sorted(by_name))
    if wanted:
        if wanted in by_name:
            return by_name[wanted], ""
        return None, f"SERVICE_NETWORK is {wanted}, but the container is in {names or 'no network'}"
    if len(by_name) == 1:
        return next(iter(by_name.values())), ""
    for name in preferred:
        if name in by_name:
            return by_name[name], ""
    if not by_name:
        return None, "the container is in no network"
    return None, f"ambiguous networks {names}: say which with SERVICE_NETWORK or --network"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
