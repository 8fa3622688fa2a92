"""At which address others are told to reach a peer. What is told is true, or nothing is told."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

#: What is in front of endpoints that are libzmq's: others reach them over the same wire as without.
_LIBZMQ: Final = "zmq+"
_TCP: Final = re.compile(
    r"(?P<scheme>tcp|tls)://(?:\[(?P<six>[^\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>\d+|\*)"
)
_SCHEME: Final = re.compile(r"(?:tcp|tls)://")
_HOST: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^\[\]:/\s]+))(?::(?P<port>\d{1,5}))?")

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Interface(msgspec.Struct, frozen=True):
    """An address of this machine.

    Attributes:
        name: the interface that has it.
        address: the address, without a zone.
    """

    name: str
    address: str


class Unreachable(ValueError):
    """Others cannot be told how to reach a peer; the message says why, and what to do."""


def needs_interfaces(endpoint: str, rules: Sequence[str]) -> bool:
    """Whether the machine's addresses have to be known to tell where others reach a peer."""
    bound = _TCP.fullmatch(endpoint.removeprefix(_LIBZMQ))
    if bound is None:
        return False
    if not rules:
        return _is_wildcard(bound["six"] or bound["host"])
    return not all(_says_all(rule) for rule in rules)


def _says_all(rule: str) -> bool:
    """Whether a rule cannot be the name of an interface or a network."""
    found = _HOST.fullmatch(rule)
    return "://" in rule or _address(rule) is not None or (found is not None and found["port"] is not None)


def is_inside(endpoint: str) -> bool:
    """Whether an endpoint is known in its own process alone, and so is nothing that others are told."""
    return endpoint.startswith(("inproc://", "memory://"))


def public(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Return those endpoints that others reach: if some are of a network, those of this machine alone are left out."""
    every = tuple(dict.fromkeys(endpoints))
    return tuple(endpoint for endpoint in every if not _is_local(endpoint)) or every


def _is_local(endpoint: str) -> bool:
    endpoint = endpoint.removeprefix(_LIBZMQ)
    bound = _TCP.fullmatch(endpoint)
    if bound is None:
        return endpoint.startswith("ipc://")
    host = bound["six"] or bound["host"]
    return host == "localhost" or _is_loopback(host)


def advertised(endpoint: str, rules: Sequence[str], interfaces: Sequence[Interface]) -> str:
    """Return the endpoint at which others reach a peer.

    Args:
        endpoint: where it is bound.
        rules: endpoints, hosts with or without a port, networks, and names of interfaces; the first that fits counts.
        interfaces: the machine's addresses, of interfaces that are up.

    Raises:
        Unreachable: they cannot be told.
    """
    endpoint = endpoint.removeprefix(_LIBZMQ)
    scheme, _, _ = endpoint.partition("://")
    bound = _TCP.fullmatch(endpoint)
    if bound is None:
        found = next((rule for rule in rules if rule.startswith(f"{scheme}://")), None)
        return found or endpoint
    host, port = bound["six"] or bound["host"], bound["port"]
    if not rules:
        return _unruled(endpoint, bound, interfaces)
    reasons = []
    for rule in rules:
        if "://" in rule and not rule.startswith(f"{scheme}://"):
            reasons.append(f"{rule} is not {scheme}://")
            continue
        explicit = _explicit(rule, interfaces)
        if explicit is not None:
            name, own_port = explicit
            if _is_wildcard(name):
                reasons.append(f"{rule} is every address, and so none that others reach")
                continue
            return _at(scheme, name, own_port or port)
        try:
            return _at(scheme, _here(rule, host, interfaces), port)
        except Unreachable as error:
            reasons.append(str(error))
    raise Unreachable(f"others cannot be told how to reach {endpoint}: {'; '.join(reasons)}")


def _explicit(rule: str, interfaces: Iterable[Interface]) -> tuple[str, str] | None:
    """Return host and port of a rule that names them; ``None`` if it is a network or an interface."""
    if rule in {one.name for one in interfaces} or _network(rule) is not None:
        return None
    if ":" in rule and _address(rule) is not None:
        return rule, ""
    found = _HOST.fullmatch(_SCHEME.sub("", rule))
    if found is None:
        raise Unreachable(
            f"{rule!r} is nothing to advertise: it has to be HOST, HOST:PORT, tcp://HOST:PORT, a network such as 10.0.0.0/8, or "
            f"the name of an interface such as eth0"
        )
    host = found["six"] or found["host"]
    is_name = found["port"] is None and found["six"] is None and "://" not in rule
    if is_name and _address(host) is None and "." not in host and host != "localhost":
        return None  # an interface, even one that is not there: a host is written with a dot or a port
    return host, found["port"] or ""


def _here(rule: str, host: str, interfaces: Sequence[Interface]) -> str:
    """Return the address of this machine that a network or an interface stands for, and that is bound."""
    network = _network(rule)
    if network is None:
        found = [one.address for one in interfaces if one.name == rule]
        if not found:
            names = ", ".join(dict.fromkeys(one.name for one in interfaces)) or "none"
            raise Unreachable(
                f"there is no interface {rule} with an address (there are: {names}; a host is written with a port, {rule}:PORT)"
            )
    else:
        found = [
            one.address
            for one in interfaces
            if (address := _address(one.address)) is not None
            and address.version == network.version
            and address in network
        ]
        if not found:
            raise Unreachable(f"this machine has no address in {rule}")
    usable = [address for address in found if _listens(host, address)]
    # Of one interface, the first address of the first family; those of the link alone need a zone that others do not know.
    usable = [address for address in usable if not _is_link_local(address)]
    if not usable:
        raise Unreachable(f"{', '.join(found)} ({rule}) is not bound: {host or '*'} is")
    if network is not None and len(usable) > 1:
        raise Unreachable(f"this machine has {', '.join(usable)} in {rule}: name one of them")
    return usable[0]


def _unruled(endpoint: str, bound: re.Match[str], interfaces: Sequence[Interface]) -> str:
    scheme, host, port = bound["scheme"], bound["six"] or bound["host"], bound["port"]
    if not _is_wildcard(host):
        return _at(scheme, host, port)
    candidates = [
        one
        for one in interfaces
        if _listens(host, one.address) and not _is_loopback(one.address) and not _is_link_local(one.address)
    ]
    if any(":" not in one.address for one in candidates):
        candidates = [one for one in candidates if ":" not in one.address]
    if len(candidates) == 1:
        return _at(scheme, candidates[0].address, port)
    if not candidates:
        raise Unreachable(
            f"{endpoint} is every address, and this machine has none that others reach: bind to {scheme}://127.0.0.1:{port} if it is for "
            f"this machine alone, or say with advertise= (--advertise) where others reach it"
        )
    there = ", ".join(f"{one.address} ({one.name})" for one in candidates)
    raise Unreachable(
        f"{endpoint} is every address, and this machine has {there}: say with advertise= (--advertise) which of them others reach, "
        f"such as {candidates[0].name!r} or {candidates[0].address!r}, or bind to one of them"
    )


def _at(scheme: str, host: str, port: str) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _is_wildcard(host: str) -> bool:
    if host in ("", "*"):
        return True
    address = _address(host)
    return address is not None and address.is_unspecified


def _listens(host: str, address: str) -> bool:
    """Whether what is bound to a host takes what comes to an address of this machine."""
    if host in ("", "*", "0.0.0.0"):
        return ":" not in address
    return _is_wildcard(host) or host == address


def _is_loopback(address: str) -> bool:
    found = _address(address)
    return found is not None and found.is_loopback


def _is_link_local(address: str) -> bool:
    found = _address(address)
    return found is not None and found.is_link_local


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in text or "://" in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
