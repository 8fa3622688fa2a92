"""The methods of a server of discovery, as typed proxies see them."""

from __future__ import annotations

from typing import Any, Never, Protocol

import duplex
from duplex_services.discovery._model import (
    Batch,
    Explanation,
    Listing,
    Position,
    Registration,
    ServiceConfig,
    ServiceInfo,
    Status,
)
from duplex_services.discovery._rules._selecting import Filter
from duplex_services.discovery._wire import Diff, Granted, LeaderNews, Overview, Report


class DiscoveryService(Protocol):
    """What can be asked of discovery; the service's own methods say more, as `duplex describe` shows."""

    #: Register an instance for as long as the call is open; what is sent on it changes the instance's health.
    register: duplex.Streaming[[str, Registration, float], Report, Granted]
    #: Register an instance, or change it, and note that it lives.
    heartbeat: duplex.Unary[[str, Registration, float], Granted]
    #: Note that an instance lives.
    beat: duplex.Unary[[str, str, str], None]
    #: Deregister an instance: of which service, which, of which registration only, and why.
    deregister: duplex.Unary[[str, str, str, str], None]
    #: Say how an instance is.
    report: duplex.Unary[[str, str, Report, str], None]
    #: Have an instance drain, or no more.
    drain: duplex.Unary[[str, str, str, bool], None]
    #: Have hands off an instance, or no more.
    maintain: duplex.Unary[[str, str, str, bool], None]
    #: Return the instances of a service.
    instances: duplex.Unary[[str, Filter], Listing]
    #: Tell what there is of a service, and what changes.
    watch: duplex.Streaming[[str, Position | None], Never, Batch]
    #: Return who leads a service.
    leader: duplex.Unary[[str], LeaderNews]
    #: Tell who leads a service, and who after that.
    watch_leader: duplex.Streaming[[str], Never, LeaderNews]
    #: Name who leads a service.
    set_leader: duplex.Unary[[str, str], None]
    #: Return all services.
    services: duplex.Unary[[], Overview]
    #: Return one service.
    service: duplex.Unary[[str], ServiceInfo]
    #: Have a service, with or without instances.
    add_service: duplex.Unary[[str, ServiceConfig], None]
    #: Say how a service is to be treated.
    configure: duplex.Unary[[str, ServiceConfig], None]
    #: Have a service no more.
    remove_service: duplex.Unary[[str], None]
    #: Keep something for a service, if it is as it was read.
    set_metadata: duplex.Unary[[str, Any, int], int]
    #: Say why an instance is listed, or not.
    explain: duplex.Unary[[str, str, Filter], Explanation]
    #: Tell what became different between two indexes or times.
    diff: duplex.Unary[[float, float | None, str, bool], Diff]
    #: Tell how good what is known is.
    status: duplex.Unary[[], Status]
