"""The addresses under which others reach this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from duplex_services.registration._model import Host

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

#: How interfaces that engines make are called: what is reached there is on this machine alone.
_OF_ENGINES: Final = ("docker", "br-", "veth", "cni", "podman", "virbr", "flannel", "cali")


class Interface(NamedTuple):
    """An address of an interface."""

    name: str
    address: str


def choose_host(
    name: str, interfaces: Iterable[Interface], wanted: Sequence[str], routed: Sequence[str] = ()
) -> Host:
    """Return the host with the addresses that others are told.

    Args:
        name: the host's.
        interfaces: the addresses that it has.
        wanted: addresses, networks (``10.0.0.0/8``) or interfaces (``eth1``); of each family the first that there is.
        routed: the addresses from which the host reaches others, if nothing is wanted.

    Raises:
        ValueError: there is none of those.
    """
    here = [found for found in interfaces if not _is_local(found.address)]
    found: dict[int, str] = {}
    for text in wanted:
        for address in _matching(text, here):
            found.setdefault(ipaddress.ip_address(address).version, address)
    if wanted and not found:
        shown = ", ".join(f"{one.name} {one.address}" for one in here) or "none"
        raise ValueError(f"--advertise {' '.join(wanted)}: there is no such address here; there are {shown}")
    if not wanted:
        for address in routed:
            if not _is_local(address):
                found.setdefault(ipaddress.ip_address(address).version, address)
        for version in (4, 6):
            others = [
                one.address
                for one in here
                if not one.name.startswith(_OF_ENGINES)
                and ipaddress.ip_address(one.address).version == version
            ]
            if version not in found and len(others) == 1:
                found[version] = others[0]
    return Host(name, found.get(4, ""), found.get(6, ""))


def _matching(text: str, here: Sequence[Interface]) -> list[str]:
    if "/" in text:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"--advertise {text} is no network, such as 10.0.0.0/8") from None
        return [one.address for one in here if ipaddress.ip_address(one.address) in network]
    try:
        # An address need not be of this machine: others may reach it through a router.
        return [str(ipaddress.ip_address(text))]
    except ValueError:
        return [one.address for one in here if one.name == text]


def _is_local(address: str) -> bool:
    parsed: _Address = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified
