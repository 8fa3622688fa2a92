"""What a peer has to do with its directory: it looks services up there, and has it know what it offers, as long as it does."""

from __future__ import annotations

from typing import Any, Final, Protocol, final

import trio

from duplex._config import Advertise
from duplex.engine.serving import BUILTIN, ServiceTable
from duplex.resolvers import Directory, Linking, Offer, Resolver, open_directory
from duplex.transports import full_endpoint

#: Seconds between the news that this peer is not there any more and its end, for those who are told it.
_SEEN_WITHIN: Final = 0.2


class Bound(Protocol):
    """Where a peer is bound."""

    @property
    def bound(self) -> list[str]:
        """The real endpoints."""


class Host(Protocol):
    """The peer."""

    #: Its id and its name.
    id: str
    name: str
    #: What it offers.
    services: ServiceTable[Any]
    #: Runs something until it ends or the peer does.
    spawn: Any
    #: Raises an error in another thread than the peer's.
    check_thread: Any

    @property
    def ports(self) -> Bound:
        """Where it is bound."""

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""

    @property
    def is_draining(self) -> bool:
        """Whether it drains."""


@final
class Registering:
    """The directory of one peer, which is made when it is needed.

    Args:
        host: the peer.
        servers: where the directory is asked; empty: where it is by default, and the peer registers nothing.
        advertise: what others are told of the peer.
        linking: how it links to where the directory is asked.

    Raises:
        ConfigurationError: an argument makes no sense.
    """

    def __init__(self, host: Host, servers: tuple[str, ...], advertise: Advertise, linking: Linking) -> None:
        self._host = host
        self._servers = servers
        self._advertise = advertise
        self._linking = linking
        self._directory: Directory | None = None
        self._is_withdrawn = False
        if servers:
            self.directory()
            host.spawn(self._watch, name="duplex registration")

    def directory(self) -> Directory:
        """Return the directory.

        Raises:
            ConfigurationError: there is none, or it cannot be asked there.
        """
        if self._directory is None:
            self._directory = open_directory(self._servers, self._advertise, self._linking)
            self._host.spawn(self._directory.run, name="duplex directory")
        return self._directory

    def look_up(self, text: str) -> tuple[str, Resolver]:
        """Return the name of the service that an endpoint stands for, and what says where it is.

        Raises:
            ConfigurationError: it is malformed.
            trio.ClosedResourceError: the peer is closed, or drains.
        """
        self._host.check_thread()
        if self._host.is_closed or self._host.is_draining:
            raise trio.ClosedResourceError("this peer is closed, or drains, and connects nowhere")
        directory = self.directory()
        return directory.service_of(text), directory.resolver(text)

    def check_bind(self, endpoint: str) -> None:
        """Raise ``ConfigurationError`` if services are to be registered, and others could not be told how to reach them at an endpoint."""
        if self._names() and isinstance(endpoint, str):
            self.directory().check(full_endpoint(endpoint))

    def check_service(self, service: str) -> None:
        """Raise ``ConfigurationError`` if a service is to be registered, and cannot be."""
        if self._servers and not service.startswith(BUILTIN):
            directory = self.directory()
            directory.check_service(service)
            for endpoint in self._host.ports.bound:
                directory.check(endpoint)

    def _names(self) -> list[str]:
        """Return the services that are to be registered."""
        if not self._servers:
            return []
        return [name for name in self._host.services.services if not name.startswith(BUILTIN)]

    def look(self) -> None:
        """What the peer offers, or where, has changed."""
        self._host.services.note_health()

    async def withdraw(self) -> bool:
        """Have others be told that the peer offers nothing any more. Tells whether there was somebody to tell that to."""
        if not self._servers or self._is_withdrawn:
            return False
        self._is_withdrawn = True
        had_offers = bool(self._offers())
        await self.directory().withdraw()
        return had_offers

    async def withdraw_and_wait(self) -> None:
        """Withdraw the offers, and wait until everyone told of it has had time to notice."""
        if await self.withdraw():
            await trio.sleep(_SEEN_WITHIN)

    async def _watch(self) -> None:
        """Have the directory know what the peer offers."""
        services = self._host.services
        while True:
            names = self._names()
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(services.ask_health, name)
            if not self._is_withdrawn:
                self.directory().offer(self._offers())
            ttl = min((services.health_ttl(name) for name in names), default=services.health_ttl(""))
            with trio.move_on_after(ttl):
                await services.health_changed()

    def _offers(self) -> list[Offer]:
        host = self._host
        if host.is_closed or host.is_draining:
            return []
        return [
            Offer(
                service=name,
                version=host.services.services[name].version,
                endpoint=endpoint,
                peer=host.id,
                peer_name=host.name,
                serving=host.services.health_of(name),
            )
            for name in self._names()
            for endpoint in host.ports.bound
        ]
