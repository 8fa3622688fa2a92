"""What calls of the discovery service carry, beside the words of the model."""

from __future__ import annotations

from typing import Final

import msgspec

from duplex_services.discovery._model import (
    Change,
    Health,
    Leader,
    Position,
    ServerInfo,
    ServiceInfo,
    Status,
)

#: The name under which discovery is served.
SERVICE: Final = "discovery"

#: The permission to register instances, to say how they are, and to deregister them: also those of others, as who registers an
#: id anew has it.
REGISTER: Final = "discovery:register"

#: The permission to take instances out, and to say how services are treated, who leads them, and what is kept for them.
OPERATE: Final = "discovery:operate"


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an instance is, as its registrant or a check says.

    Attributes:
        health: how it is.
        note: why, for a human.
    """

    health: Health
    note: str = ""


class Granted(msgspec.Struct, frozen=True):
    """A registration.

    Attributes:
        token: names it: a later one of the same instance has another.
        ttl: seconds of silence after which it goes.
        position: from when on a watch shows it.
    """

    token: str
    ttl: float
    position: Position


class LeaderNews(msgspec.Struct, frozen=True):
    """Who leads.

    Attributes:
        service: of which service.
        leader: who leads; ``None`` if nobody does.
        status: how good this is.
    """

    service: str
    leader: Leader | None
    status: Status


class Overview(msgspec.Struct, frozen=True):
    """All services.

    Attributes:
        services: sorted by name.
        servers: the servers of discovery that live.
        status: how good this is.
    """

    services: tuple[ServiceInfo, ...]
    servers: tuple[ServerInfo, ...]
    status: Status


class Diff(msgspec.Struct, frozen=True):
    """What became different.

    Attributes:
        first: the index after which.
        last: the index up to which.
        changes: in order, several of one thing merged into one.
    """

    first: int
    last: int
    changes: tuple[Change, ...]
