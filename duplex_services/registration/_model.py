"""The words of registration: what a source tells of a container, and what a target is told of a service. No I/O."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

#: Whether an exit withdraws what a container had: always, or only if it was a success or a signal.
Deregister: TypeAlias = Literal["always", "on-success"]

#: Which ports of a container in the host's network are listed: those that a label speaks of, or all that are exposed.
HostPorts: TypeAlias = Literal["labelled", "exposed"]

#: What Docker says of a container's HEALTHCHECK; empty: it has none.
Health: TypeAlias = Literal["", "starting", "healthy", "unhealthy"]

#: What a service is listed as: it serves, it does so with something wrong, it does not, it gets no new work, or hands off for now.
State: TypeAlias = Literal["passing", "warning", "critical", "draining", "maintenance"]

#: States in which a container has a process.
ALIVE: Final = frozenset({"running", "paused"})


#: The network mode of a process that is in no container: it is in the host's, and all of its ports are meant.
PROCESS: Final = "process"


class Port(NamedTuple):
    """A port as containers name it, such as 80 of ``tcp``."""

    number: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


class Binding(NamedTuple):
    """Where a port is published: an address of the host's, empty for all of a family, and a port there."""

    address: str
    port: int


class Network(msgspec.Struct, frozen=True):
    """A network that a container is attached to.

    Attributes:
        name: its name.
        four: the container's IPv4 address there; empty if it has none.
        six: its IPv6 address.
    """

    name: str
    four: str = ""
    six: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, IPv4 first."""
        return tuple(address for address in (self.four, self.six) if address)


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container, or another thing that runs, as its source tells of it.

    Attributes:
        id: names it for as long as it exists.
        name: what people call it; may change.
        image: what it was made of, as it was asked for.
        hostname: what its processes call their host.
        status: ``created``, ``running``, ``paused``, ``restarting``, ``exited``, ``dead`` or ``removing``.
        health: of its own check.
        environment: ``KEY=VALUE`` each, in order.
        labels: its labels.
        exposed: the ports that its image or its command names.
        published: where ports are published; empty for those that are not.
        mode: its network mode: ``bridge``, ``host``, ``none``, ``container:ID``, or the name of a network.
        networks: those that it is attached to.
        stop_signal: the number of the signal that asks it to stop.
        is_stopping: that signal was sent.
        exit_code: of the last exit.
        created: when it was made, in seconds since 1970.
        started: when it was started last, as the source has it.
        finished: when it ended, in seconds since 1970; 0 if it never did.
        inspected: all that the source knows of it, for templates.
    """

    id: str
    name: str
    image: str = ""
    hostname: str = ""
    status: str = "running"
    health: Health = ""
    environment: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    exposed: tuple[Port, ...] = ()
    published: dict[Port, tuple[Binding, ...]] = {}
    mode: str = "bridge"
    networks: tuple[Network, ...] = ()
    stop_signal: int = 15
    is_stopping: bool = False
    exit_code: int = 0
    created: float = 0.0
    started: str = ""
    finished: float = 0.0
    inspected: dict[str, Any] = {}

    @property
    def short(self) -> str:
        """The beginning of its id, as people see it."""
        return self.id[:12]

    @property
    def is_alive(self) -> bool:
        """Whether it has a process."""
        return self.status in ALIVE


class Host(msgspec.Struct, frozen=True):
    """The machine whose containers these are.

    Attributes:
        name: its name. It is part of ids only with ``--compat registrator``.
        four: the IPv4 address under which others reach it; empty if there is none.
        six: its IPv6 address.
    """

    name: str
    four: str = ""
    six: str = ""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be listed, and how.

    Attributes:
        compat: as Registrator did, with its faults.
        internal: containers' own ports and addresses, instead of what is published.
        explicit: only what a label or a variable names.
        host_ports: of containers in the host's network.
        networks: whose addresses are taken, the first one first, if a container is in several.
        tags: added to every service; a template.
        ttl: seconds until what is not refreshed goes; 0 for the target's own.
        deregister: what an exit withdraws.
        keep_exited: seconds for which a stopped container stays listed as critical.
        address_label: the label of which the value is the address, up to its last slash.
        host_address: instead of the host's, after detection: Registrator's ``-ip``.
    """

    compat: bool = False
    internal: bool = False
    explicit: bool = False
    host_ports: HostPorts = "labelled"
    networks: tuple[str, ...] = ()
    tags: str = ""
    ttl: float = 0.0
    deregister: Deregister = "always"
    keep_exited: float = 0.0
    address_label: str = ""
    host_address: str = ""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service of a container, as it is to be listed.

    Attributes:
        id: what it is called among those of its name.
        name: the service's name.
        host: the address to connect to.
        port: the port to connect to.
        protocol: ``tcp``, ``udp`` or ``sctp``.
        tags: in order.
        attributes: what labels and variables say besides.
        checks: what they say of how it is to be checked, without the prefix ``check_``.
        ttl: seconds until it goes if it is not refreshed; 0 for the target's own.
        state: how it is.
        note: why, for a human.
        container: the container's id.
        container_name: its name.
        container_hostname: what its processes call their host.
        inside: its port in the container.
    """

    id: str
    name: str
    host: str
    port: int
    protocol: str = "tcp"
    tags: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    checks: dict[str, str] = {}
    ttl: float = 0.0
    state: State = "passing"
    note: str = ""
    container: str = ""
    container_name: str = ""
    container_hostname: str = ""
    inside: int = 0

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Finding(msgspec.Struct, frozen=True):
    """What became of a port, or of a whole container.

    Attributes:
        container: its id.
        name: its name.
        port: such as ``80/tcp``; empty for the container.
        service: what it is listed as; empty if it is not.
        id: under which id.
        why: why it is not listed, or in what state it is.
    """

    container: str
    name: str
    port: str = ""
    service: str = ""
    id: str = ""
    why: str = ""


class Desired(msgspec.Struct, frozen=True):
    """What is to be listed.

    Attributes:
        services: each id once for a name.
        findings: one for each port, and for each container without any.
        wanted: addresses whose content templates ask for, and nobody has fetched yet.
    """

    services: tuple[Service, ...] = ()
    findings: tuple[Finding, ...] = ()
    wanted: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """What a registry has.

    Attributes:
        key: names it there.
        owner: who has written it; empty if that is not known.
        value: all that is said there, in one form for each target.
        state: what it is listed as.
        note: why.
    """

    key: str
    owner: str
    value: str
    state: State = "passing"
    note: str = ""
