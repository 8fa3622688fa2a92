"""What a peer offers: its services, their handlers, and whether they take calls."""

from __future__ import annotations

import bisect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar, final

from duplex._config import Limits
from duplex._errors import ConfigurationError
from duplex._metadata import IDEMPOTENCY_FEATURE
from duplex._numbers import check_seconds
from duplex.codec import CODECS
from duplex.engine._handler import Handler
from duplex.engine._probes import Probes
from duplex.engine._signal import Signal
from duplex.engine.serving._authorization import Authorization
from duplex.engine.serving._middleware import ServingMiddleware
from duplex.engine.serving._who import BUILTIN
from duplex.protocol import (
    MAX_NAME,
    MAX_SERVICES,
    PROTOCOL_NAME,
    VERSIONS,
    Hello,
    ServiceInfo,
    limits_info,
)

ServiceT = TypeVar("ServiceT", bound="ServedService")


class ServedService(Protocol):
    """What the engine needs to know of a service."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def methods(self) -> Mapping[str, Handler]:
        """Handlers by method name, without the service's."""


#: Names that an answer lists, at most.
MOST_NAMED: Final = 5


def check_name(what: str, text: str) -> None:
    """Raise ``ConfigurationError`` for a text that other peers could not read as a name or version."""
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} is a str, not {text!r}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what} is not encodable as UTF-8: {text!r}") from None
    if size > MAX_NAME:
        raise ConfigurationError(f"{what} has at most {MAX_NAME} bytes, not {size}: {text[:40]!r}...")


def nearest(name: str, known: Collection[str]) -> str:
    """List names for a text: all, or of many those next to one that is not among them, in the order of the alphabet.

    It is the answer to something that costs who asks next to nothing, so it is short, and made without much work.
    """
    names = sorted(known)
    count = len(names)
    if count <= MOST_NAMED:
        return ", ".join(names) or "none"
    first = max(0, min(bisect.bisect(names, name) - MOST_NAMED // 2, count - MOST_NAMED))
    return f"{', '.join(names[first : first + MOST_NAMED])} and {count - MOST_NAMED} others"


@final
class ServiceTable(Generic[ServiceT]):
    """The services of one peer.

    Args:
        peer_id: of the peer, for what it says of itself.
        name: likewise.
        limits: likewise.
        middleware: what runs around every handler, the outermost first.
        authorization: decides which calls may be made.
        announce: tells everybody who is linked what is offered from now on.
        takes_calls: whether the peer as a whole does.
        spawn: runs a task of the peer's.

    Attributes:
        handlers: what is called, by ``service.method``, without asking whether that may be.
        guarded: what is called if it may be.
    """

    def __init__(
        self,
        peer_id: str,
        name: str,
        limits: Limits,
        middleware: Sequence[ServingMiddleware],
        authorization: Authorization,
        announce: Callable[[tuple[ServiceInfo, ...]], None],
        takes_calls: Callable[[], bool],
        spawn: Callable[..., None],
    ) -> None:
        check_name("the name of a peer", name)
        self._peer_id = peer_id
        self._name = name
        self._limits = limits
        self._middleware = (*authorization.layers, *middleware)
        self.authorization = authorization
        self._announce = announce
        self._takes_calls = takes_calls
        self._services: dict[str, ServiceT] = {}
        self.handlers: dict[str, Handler] = {}
        self.guarded: dict[str, Handler] = {}
        self._hello: Hello | None = None
        self._unhealthy: set[str] = set()
        self._health_changed = Signal()
        self._probes = Probes(spawn, self.note_health)

    def add(self, service: ServiceT) -> None:
        """Offer a service from now on, and tell everybody who is linked.

        Raises:
            ConfigurationError: a service of that name is offered already.
        """
        if service.name in self._services:
            raise ConfigurationError(f"this peer offers a service named {service.name!r} already")
        if len(self._services) >= MAX_SERVICES:
            raise ConfigurationError(f"a peer offers at most {MAX_SERVICES} services, its own included")
        check_name(f"the version of service {service.name!r}", service.version)
        self._services[service.name] = service
        for method, handler in service.methods.items():
            table = self.guarded if self.authorization.guards(handler) else self.handlers
            table[f"{service.name}.{method}"] = handler.behind(self._middleware)
        self._hello = None
        self._announce(self._infos())

    @property
    def services(self) -> Mapping[str, ServiceT]:
        """The services, by name."""
        return dict(self._services)

    def _infos(self) -> tuple[ServiceInfo, ...]:
        return tuple(ServiceInfo(service.name, service.version) for service in self._services.values())

    def hello(self) -> Hello:
        """Return what this peer says of itself."""
        if self._hello is None:
            self._hello = Hello(
                PROTOCOL_NAME,
                *VERSIONS,
                self._peer_id,
                self._name,
                codecs=tuple(CODECS),
                features=(IDEMPOTENCY_FEATURE,),
                limits=limits_info(self._limits),
                services=self._infos(),
            )
        return self._hello

    def explain_missing(self, target: str) -> str:
        """Return why there is no handler for a method, and what there is instead."""
        service, _, method = target.rpartition(".")
        found = self._services.get(service)
        if found is not None:
            return f"service {service!r} has no method {method!r}; it has {nearest(method, found.methods)}"
        offered = nearest(service, [name for name in self._services if not name.startswith(BUILTIN)])
        if not service:
            return f"a method is named service.method, not {target!r}; services here: {offered}"
        return f"there is no service {service!r} at this peer; it offers {offered}"

    # -- health ----------------------------------------------------------------------------------------

    def health_of(self, service: str) -> bool:
        """Whether a service, or with an empty name the peer as a whole, takes calls."""
        if not self._takes_calls() or service in self._unhealthy or "" in self._unhealthy:
            return False
        return self._probes.is_well(service) and self._probes.is_well("")

    async def ask_health(self, service: str) -> None:
        """Return once the functions that know how a service is have said so, unless they have lately."""
        await self._probes.ask("")
        if service:
            await self._probes.ask(service)

    def health_ttl(self, service: str) -> float:
        """Return the seconds for which that holds."""
        return min(self._probes.ttl(service), self._probes.ttl(""))

    def probe_health(
        self, service: str, probe: Callable[[], Awaitable[object]], *, ttl: float, timeout: float
    ) -> None:
        """See :meth:`duplex.Peer.probe_health`."""
        self._check_offered(service)
        if not callable(probe):
            raise ConfigurationError(f"a probe is an async function without arguments, not {probe!r}")
        check_seconds("ttl", ttl)
        check_seconds("timeout", timeout)
        self._probes.add(service, probe, ttl, timeout)

    def set_health(self, service: str, *, serving: bool) -> None:
        """See :meth:`duplex.Peer.set_health`."""
        self._check_offered(service)
        if serving:
            self._unhealthy.discard(service)
        else:
            self._unhealthy.add(service)
        self.note_health()

    def _check_offered(self, service: str) -> None:
        if service and service not in self._services:
            raise ConfigurationError(f"this peer offers no service named {service!r}")

    def note_health(self) -> None:
        """Health may be another than before."""
        self._health_changed.notify()

    async def health_changed(self) -> None:
        """Return when :meth:`set_health` was called, or the peer has begun to drain."""
        await self._health_changed.wait()
