"""The words of discovery: what a registrant says of itself, what others are told of it, and what is in the store. No I/O."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

#: What a check or the registrant itself says: all is well; it serves, with something wrong; it does not serve.
Health: TypeAlias = Literal["passing", "warning", "critical"]

#: What an operator says: no new work, but what runs may end; or hands off for now. Empty: nothing.
Mode: TypeAlias = Literal["", "draining", "maintenance"]

#: What comes of both: the mode if there is one, else the health.
State: TypeAlias = Literal["passing", "warning", "critical", "draining", "maintenance"]

#: Who leads a service: the oldest instance that serves, or the one that somebody named.
LeaderType: TypeAlias = Literal["oldest", "manual"]

#: What a change was.
Kind: TypeAlias = Literal["up", "update", "down", "leader", "config", "metadata"]

#: How an instance is checked.
CheckKind: TypeAlias = Literal["tcp", "http", "duplex", "grpc", "command"]

#: Seconds without a sign of life after which an instance is gone, if the registrant names no others.
DEFAULT_TTL: Final = 10.0

#: Instances and services, together, that a server takes: some hundred megabytes, if each is as large as it may be.
MOST_ENTRIES: Final = 50_000

#: States that are given to those who look for somebody to call.
SERVING: Final[frozenset[State]] = frozenset({"passing", "warning"})


# ------------------------------------------------------------------------------------- what registrants say


class Check(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """How to find out whether an instance is well.

    Attributes:
        kind: ``tcp`` connects; ``http`` gets and looks at the status; ``duplex`` and ``grpc`` ask the health service;
            ``command`` runs a program, and only the registrant runs it.
        target: what to try: ``host:port``, a URL, an endpoint or a command line; empty for the instance's own address.
        interval: seconds between two checks. Until the first success it is 0.1 s.
        timeout: seconds that one may take.
        threshold: checks in a row that must agree before the health changes; the first success counts at once.
        status: what ``http`` expects.
        contains: what ``http`` must find in the first 5120 bytes of the body.
        host: the name that ``http`` asks for, if it is not the target's.
        service: what ``duplex`` and ``grpc`` ask about; empty for the whole.
    """

    kind: CheckKind
    target: str = ""
    interval: float = 2.0
    timeout: float = 2.0
    threshold: int = 2
    status: int = 200
    contains: str = ""
    host: str = ""
    service: str = ""


class Registration(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody says of an instance that is to be found.

    Attributes:
        id: what it is called, within its service. It stays the same when it registers anew.
        endpoint: where a peer connects, such as ``tcp://10.0.0.7:7700``; empty for what is no peer of Duplex's.
        host: an address or a name; taken from a TCP endpoint if it is empty.
        port: the same, for the port.
        protocol: what is spoken there.
        metadata: whatever others shall know or filter by.
        weight: how much work it wants beside the others, from 0 to 65535.
        zone: where it is, for callers that prefer what is near.
        health: to begin with.
        check: how to find out about its health, if that is for discovery to do.
    """

    id: str
    endpoint: str = ""
    host: str = ""
    port: int = 0
    protocol: str = "tcp"
    metadata: dict[str, str] = {}
    weight: int = 1
    zone: str = ""
    health: Health = "passing"
    check: Check | None = None


class ServiceConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a service is to be treated.

    Attributes:
        leader_type: who leads it.
        leader: of a ``manual`` one, the id that was named; it leads as soon as it is there.
    """

    leader_type: LeaderType = "oldest"
    leader: str = ""


# ---------------------------------------------------------------------------------------- what others see


class Instance(msgspec.Struct, frozen=True, gc=False):
    """An instance, as it is known.

    Attributes:
        service: what it is an instance of.
        id: as it was registered, like all that has the same name in :class:`Registration`.
        state: whether to call it; only ``passing`` and ``warning`` are listed to who asks for no others.
        note: why it is in that state, for a human.
        index: the store's revision of its first registration: who has a lower one is older.
        ttl: seconds without a sign of life after which it is gone.
        suspect: it has vanished from a store that was replaced, or with more than half of all: that says little.
            For twice its TTL it is listed nevertheless.
    """

    service: str
    id: str
    endpoint: str
    host: str
    port: int
    protocol: str
    metadata: dict[str, str]
    weight: int
    zone: str
    state: State
    note: str
    index: int
    ttl: float
    suspect: bool = False

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address; empty if it has none."""
        if not self.port:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def serves(self) -> bool:
        """Whether to give it to those who look for somebody to call."""
        return self.state in SERVING


class Leader(msgspec.Struct, frozen=True):
    """Who leads a service.

    Attributes:
        id: of the instance.
        fence: grows with each change of leader within one epoch. What a leader does carries it, so that what an earlier
            one does too late can be refused.
        epoch: which life of the store the fence is of.
        instance: the instance; ``None`` if it is not known here.
    """

    id: str
    fence: int
    epoch: str
    instance: Instance | None = None


class Metadata(msgspec.Struct, frozen=True):
    """What somebody keeps for a service.

    Attributes:
        data: whatever JSON can say.
        index: the store's revision of it, which the next change names.
    """

    data: Any
    index: int


class ServiceInfo(msgspec.Struct, frozen=True):
    """A service, as it is known.

    Attributes:
        name: its name.
        config: how it is treated.
        config_index: the store's revision of that; 0 if nobody has set it.
        metadata: what somebody keeps for it.
        serving: instances that are given to those who look for one.
        instances: all instances.
        leader: who leads, if somebody does.
    """

    name: str
    config: ServiceConfig
    config_index: int
    metadata: Metadata | None
    serving: int
    instances: int
    leader: Leader | None


class Status(msgspec.Struct, frozen=True):
    """How good an answer is.

    Attributes:
        origin: which view it is of: indexes of another one mean nothing to it.
        as_of: the index of the last change in it.
        epoch: which life of the store it was read from; empty while nothing was read.
        revision: the store's, which it goes up to.
        age: seconds since it was last known to be all there is; ``None`` if it never was.
        stale: whether that is too long ago: the store is away.
        trouble: why, for a human.
    """

    origin: str
    as_of: int
    epoch: str
    revision: int
    age: float | None
    stale: bool
    trouble: str = ""


class Listing(msgspec.Struct, frozen=True):
    """Instances of a service.

    Attributes:
        service: which.
        instances: the oldest first.
        known: whether there is such a service: one without instances is, if somebody configured it.
        orphans: ids among them that no server of discovery keeps at the moment: theirs is gone, and they have not come to
            another one yet. They go after twice their TTL.
        status: how good this is.
    """

    service: str
    instances: tuple[Instance, ...]
    known: bool
    orphans: tuple[str, ...]
    status: Status


class Change(msgspec.Struct, frozen=True):
    """One thing that became different.

    Attributes:
        index: the number of the change in its view.
        at: when it was seen, in seconds since 1970.
        kind: what it was.
        service: of which service.
        id: of the instance, or of the new leader; empty if there is none.
        instance: the instance as it is now; ``None`` if it is gone, or the change is of the service.
        before: the instance as it was; ``None`` if it is new.
        why: what is known of the reason.
        leader: of a ``leader``, who leads now.
        config: of a ``config``, how the service is treated now.
        metadata: of a ``metadata``, what is kept for it now.
    """

    index: int
    at: float
    kind: Kind
    service: str
    id: str
    instance: Instance | None = None
    before: Instance | None = None
    why: str = ""
    leader: Leader | None = None
    config: ServiceConfig | None = None
    metadata: Metadata | None = None


class Position(msgspec.Struct, frozen=True):
    """How far somebody has followed a view.

    Attributes:
        origin: which view.
        index: of the last change that was told.
    """

    origin: str
    index: int


class Batch(msgspec.Struct, frozen=True):
    """What a watch tells at once.

    Attributes:
        service: which is watched; empty for all.
        reset: here begins all there is, not what has changed: forget what was told before. It may take several batches, up
            to the first one that is ``current``. So begins every watch that goes on from nothing, and one whose position is
            too old or another view's; so may one go on whose reader is slow.
        changes: in order. Several of one instance may have become one.
        current: nothing more was known when this was sent.
        status: how good it is; ``status.as_of`` and ``status.origin`` are the position to go on from, once the batch is
            ``current``.
    """

    service: str
    reset: bool
    changes: tuple[Change, ...]
    current: bool
    status: Status


class Explanation(msgspec.Struct, frozen=True):
    """Why an instance is listed to those who look for somebody to call, or is not.

    Attributes:
        service: what was asked about.
        id: which instance.
        listed: whether it is.
        reasons: why it is not, one after the other; or what is worth knowing of it.
        instance: as it is known.
        server: the server of discovery that keeps it.
        orphan: whether that server is gone.
        changes: the last ones of it that are remembered.
    """

    service: str
    id: str
    listed: bool
    reasons: tuple[str, ...]
    instance: Instance | None
    server: str
    orphan: bool
    changes: tuple[Change, ...]


class ServerInfo(msgspec.Struct, frozen=True):
    """A server of discovery.

    Attributes:
        name: it keeps that over restarts.
        incarnation: which life of it.
        endpoints: where it is reached.
    """

    name: str
    incarnation: str
    endpoints: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------- what is in the store


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An instance, as it is kept in the store. JSON, so that the store's own tools can show it.

    Attributes:
        endpoint: as it was registered, like all that has the same name in :class:`Registration`.
        server: the server of discovery that keeps it.
        incarnation: which life of that server.
        ttl: seconds.
        note: why the health is as it is.
        mode: what an operator says.
        mode_note: why.
        withdrawn: it was deregistered by somebody else than its server, which is to delete it.
    """

    server: str
    incarnation: str
    ttl: float = DEFAULT_TTL
    endpoint: str = ""
    host: str = ""
    port: int = 0
    protocol: str = "tcp"
    metadata: dict[str, str] = {}
    weight: int = 1
    zone: str = ""
    health: Health = "passing"
    check: Check | None = None
    note: str = ""
    mode: Mode = ""
    mode_note: str = ""
    withdrawn: bool = False


class LeaderRecord(msgspec.Struct, frozen=True):
    """Who leads, as it is kept in the store: the revision that put it is the fence."""

    id: str
