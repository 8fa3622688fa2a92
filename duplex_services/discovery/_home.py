"""What a peer of Duplex's has of discovery: it looks services up, and has its own registered."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from typing import Final, final

import trio

import duplex
from duplex.resolvers import Linking, Offer
from duplex.transports import default_transports
from duplex_services._shared._places import socket_endpoint
from duplex_services.discovery._cache import Cache, cache_folder
from duplex_services.discovery._interfaces import interfaces
from duplex_services.discovery._line import PLAIN, Line
from duplex_services.discovery._lookup import Lookup
from duplex_services.discovery._model import Registration
from duplex_services.discovery._protocol import DiscoveryService
from duplex_services.discovery._registering import Registered, keep_registered
from duplex_services.discovery._rules._advertising import (
    Unreachable,
    advertised,
    is_inside,
    needs_interfaces,
    public,
)
from duplex_services.discovery._rules._catalogue import split_url
from duplex_services.discovery._rules._checking import check_registration
from duplex_services.discovery._rules._naming import (
    PEER_KEY,
    SERVICE_KEY,
    VERSION_KEY,
    is_store,
    listed_name,
    read_servers,
    read_target,
)
from duplex_services.discovery._wire import SERVICE, Overview
from duplex_services.store import check_url

_log: Final = logging.getLogger("duplex")

#: Seconds that withdrawing may take.
_WITHDRAW_WITHIN: Final = 2.0

#: Seconds after which it is told that a service is not registered yet.
_TELL_AFTER: Final = 5.0

#: What is said of a service that takes no calls.
_SICK: Final = "its peer says that it takes no calls"


@final
class Home:
    """The :class:`duplex.resolvers.Directory` of a peer.

    Args:
        servers: where the directory is asked, or the URL of its store; empty: where it is by default.
        advertise: what others are told of the peer.
        linking: how to link to its servers.

    Raises:
        ConfigurationError: an argument makes no sense; the message says what does.
    """

    def __init__(
        self,
        servers: tuple[str, ...],
        advertise: duplex.Advertise,
        linking: Linking = PLAIN,
    ) -> None:
        self._servers = _checked_servers(servers) or _default_servers()
        self._advertise = advertise
        self._linking = linking
        self._cache = Cache(cache_folder())
        self._lines: dict[tuple[str, ...], Line] = {}
        self._nursery: trio.Nursery | None = None
        self._kept: dict[tuple[str, str], Keeping] = {}
        _check_registration(Registration("x", host="h", port=1), advertise)

    # -- looking up ------------------------------------------------------------------------------------

    def resolver(self, text: str) -> Lookup:
        """See :meth:`duplex.resolvers.Directory.resolver`."""
        with _refusing():
            target = read_target(text)
        return Lookup(target, self._line(target.servers or self._servers), self._cache)

    def service_of(self, text: str) -> str:
        """See :meth:`duplex.resolvers.Directory.service_of`."""
        with _refusing():
            service = read_target(text).service
        if not service:
            raise duplex.ConfigurationError(f"{text!r} names no service: discovery://NAME")
        return service

    async def names(self) -> tuple[str, ...]:
        """See :meth:`duplex.resolvers.Directory.names`."""
        send, receive = trio.open_memory_channel[duplex.RPCError | Overview](1)

        async def ask(peer: duplex.Peer) -> None:
            try:
                found = await peer.service(DiscoveryService, name=SERVICE).services()
            except duplex.RPCError as error:
                send.send_nowait(error)
            else:
                send.send_nowait(found)

        self._line(self._servers).add(ask)
        answer = await receive.receive()
        if isinstance(answer, duplex.RPCError):
            raise answer
        return tuple(info.name for info in answer.services if info.instances)

    def _line(self, servers: tuple[str, ...]) -> Line:
        line = self._lines.get(servers)
        if line is None:
            line = self._lines[servers] = Line(servers, self._linking)
            if self._nursery is not None:
                self._nursery.start_soon(line.run)
        return line

    # -- registering -----------------------------------------------------------------------------------

    def check(self, endpoint: str) -> None:
        """See :meth:`duplex.resolvers.Directory.check`."""
        if not is_inside(endpoint):
            self._advertised(endpoint)

    def check_service(self, service: str) -> None:
        """See :meth:`duplex.resolvers.Directory.check_service`."""
        with _refusing():
            listed_name(service)

    def offer(self, offers: Collection[Offer]) -> None:
        """See :meth:`duplex.resolvers.Directory.offer`."""
        told: dict[str, str] = {}
        every = {offer.endpoint for offer in offers}
        if every and all(map(is_inside, every)):
            _log.warning(
                "nothing is registered: %s is known in this process alone; bind to tcp:// or ipc:// too",
                ", ".join(sorted(every)),
            )
        for endpoint in every:
            if is_inside(endpoint):
                continue
            try:
                told[endpoint] = self._advertised(endpoint)
            except duplex.ConfigurationError as error:
                # It could be told when it was bound: the machine has other addresses now.
                _log.error("%s", error)
        reached = set(public(told.values()))
        wanted = {
            (offer.service, told[offer.endpoint]): offer
            for offer in offers
            if told.get(offer.endpoint) in reached
        }
        for key in [key for key in self._kept if key not in wanted]:
            self._kept.pop(key).leave()
        for key, offer in wanted.items():
            keeping = self._kept.get(key)
            if keeping is None:
                self._begin(key, offer)
            else:
                keeping.say(serving=offer.serving)

    def _begin(self, key: tuple[str, str], offer: Offer) -> None:
        _, endpoint = key
        advertise = self._advertise
        first = advertise.id or offer.peer
        taken = {
            keeping.registration.id for other, keeping in self._kept.items() if other[0] == offer.service
        }
        id = next(one for one in (first, *(f"{first}.{n}" for n in range(2, 1000))) if one not in taken)
        metadata = {**advertise.metadata, SERVICE_KEY: offer.service, VERSION_KEY: offer.version}
        if offer.peer_name:
            metadata[PEER_KEY] = offer.peer_name
        registration = Registration(
            id,
            endpoint=endpoint,
            protocol="duplex",
            metadata=metadata,
            weight=advertise.weight,
            zone=advertise.zone,
            health="passing" if offer.serving else "critical",
        )
        line = self._line(self._servers)
        keeping = self._kept[key] = Keeping(listed_name(offer.service), registration, advertise.ttl, line)
        line.add(keeping.run)

    async def withdraw(self) -> None:
        """See :meth:`duplex.resolvers.Directory.withdraw`."""
        leaving = list(self._kept.values())
        self._kept.clear()
        for keeping in leaving:
            keeping.leave()
        with trio.move_on_after(_WITHDRAW_WITHIN):
            for keeping in leaving:
                await keeping.left.wait()
        await trio.lowlevel.checkpoint()

    def _advertised(self, endpoint: str) -> str:
        rules = self._advertise.addresses
        there = interfaces() if needs_interfaces(endpoint, rules) else []
        with _refusing():
            return advertised(endpoint, rules, there)

    # -- running ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """See :meth:`duplex.resolvers.Directory.run`."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for line in self._lines.values():
                nursery.start_soon(line.run)
            await trio.sleep_forever()


@final
class Keeping:
    """An instance that is kept registered.

    Attributes:
        registration: what is said of it.
        left: set when it is not registered any more and will not be.
    """

    def __init__(self, service: str, registration: Registration, ttl: float, line: Line) -> None:
        self.registration = registration
        self.left = trio.Event()
        self._service = service
        self._ttl = ttl
        self._line = line
        self._is_serving = registration.health == "passing"
        self._leaving = trio.Event()
        self._registered: Registered | None = None

    def __repr__(self) -> str:
        return f"{self._service}/{self.registration.id}"

    def say(self, *, serving: bool) -> None:
        """Say whether it takes calls."""
        if serving != self._is_serving:
            self._is_serving = serving
            if self._registered is not None:
                self._report(self._registered)

    def _report(self, registered: Registered) -> None:
        if self._is_serving:
            registered.report("passing")
        else:
            registered.report("critical", _SICK)

    def leave(self) -> None:
        """Begin to withdraw it."""
        self._leaving.set()
        if self._registered is None:
            self._line.drop(self.run)
            self.left.set()

    async def run(self, peer: duplex.Peer) -> None:
        """Be registered, until told to leave or somebody else has ended it."""
        try:
            async with keep_registered(peer, self._service, self.registration, ttl=self._ttl) as registered:
                self._registered = registered
                if self._is_serving != (self.registration.health == "passing"):
                    self._report(registered)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell, registered)
                    nursery.start_soon(self._end_with, registered, nursery.cancel_scope)
                    await self._leaving.wait()
                    nursery.cancel_scope.cancel()
        except duplex.InvalidArgument as error:
            _log.error("%r is not registered: discovery refuses it: %s", self, error.message)
        finally:
            self._registered = None
            if self._leaving.is_set():
                self.left.set()
        self.left.set()

    async def _tell(self, registered: Registered) -> None:
        """Log what becomes of it, if that is not what it should be."""
        with trio.move_on_after(_TELL_AFTER):
            await registered.answered()
        level, told = logging.INFO, ""
        while not (registered.is_registered or registered.over.is_set()):
            level, told = logging.WARNING, registered.refusal.message if registered.refusal else ""
            _log.log(level, "%r is not registered yet: %s", self, told or self._line.advice)
            await registered.answered(told)
        if registered.is_registered:
            _log.log(level, "%r is registered now, at %s", self, self._line.place)

    async def _end_with(self, registered: Registered, scope: trio.CancelScope) -> None:
        await registered.over.wait()
        if not self._leaving.is_set():
            _log.warning("%r is not registered any more: %s", self, registered.why)
            scope.cancel()


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Have what makes no sense be an error of Duplex's."""
    try:
        yield
    except (Unreachable, ValueError) as error:
        raise duplex.ConfigurationError(str(error)) from None


def _check_registration(registration: Registration, advertise: duplex.Advertise) -> None:
    with _refusing():
        check_registration(
            Registration(
                advertise.id or registration.id,
                host=registration.host,
                port=registration.port,
                zone=advertise.zone,
                metadata=dict(advertise.metadata),
            )
        )
        for rule in advertise.addresses:
            # Whether the machine has it is looked at when something is bound.
            needs_interfaces("tcp://*:1", (rule,))


def _checked_servers(texts: Collection[str]) -> tuple[str, ...]:
    with _refusing():
        servers = read_servers(texts, socket_endpoint("discovery"))
    for server in servers:
        if is_store(server):
            check_url(split_url(server)[0])
        elif not any(server.partition("://")[0] in transport.schemes for transport in default_transports()):
            raise duplex.ConfigurationError(
                f"{server!r} is no server of discovery: it has to be HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, ipc:///PATH or local, or the URL of a store"
            )
    return servers


def _default_servers() -> tuple[str, ...]:
    said = os.environ.get("DUPLEX_DISCOVERY", "").split()
    return _checked_servers(said) or (socket_endpoint("discovery"),)
