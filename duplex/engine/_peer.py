"""One process's peer: its ports, its links, what it serves, and how a call finds a link."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import trio

from duplex._config import Keepalive, Limits
from duplex._errors import ConfigurationError, ConnectError, HandshakeError, Unavailable
from duplex.codec import CODECS, Codec
from duplex.engine._flush import Flusher
from duplex.engine._handler import Handler
from duplex.engine._link import BaseLink
from duplex.engine._serve import Workers
from duplex.protocol import (
    MAX_NAME,
    MAX_SERVICES,
    PROTOCOL_NAME,
    VERSIONS,
    Hello,
    ServiceInfo,
    limits_info,
    max_frame,
    most_waiting,
)
from duplex.transports import Carrier, Frames, Port, TransportOptions, transport_for

logger = logging.getLogger("duplex")

LinkT = TypeVar("LinkT", bound=BaseLink)
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


class _PortReceiver(Generic[LinkT]):
    """What the peer knows of one port: turns its callbacks into links."""

    def __init__(self, peer: BasePeer[LinkT, Any], requested: str, *, connecting: bool) -> None:
        self.peer = peer
        self.requested = requested
        self.connecting = connecting
        self.port: Port
        self.links: dict[Carrier, LinkT] = {}
        self.refusal: HandshakeError | None = None
        self.attempts = 0
        self.closed = False

    def carrier_up(self, carrier: Carrier) -> None:
        self.attempts += 1
        if len(self.links) >= 2 * self.peer.limits.max_links:
            # Greeted links are refused with a reason from max_links on; this bounds those that never greet.
            carrier.close()
            return
        self.links[carrier] = self.peer.make_link(self.port, carrier, connecting=self.connecting)

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        link = self.links.get(carrier)
        if link is not None:
            link.on_frames(frames)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        link = self.links.pop(carrier, None)
        if link is not None:
            link.lose(reason)

    def forget(self, link: BaseLink) -> None:
        self.links.pop(link.carrier, None)
        if link.refusal is not None:
            self.refusal = link.refusal


class BasePeer(Generic[LinkT, ServiceT]):
    """The engine's part of a peer. Made by ``duplex.open_peer``.

    Args:
        link_class: what links are made of.
        nursery: the parent of all the peer's tasks.
        flusher: the flusher of the present run.
        callback_handler: makes a handler of a function that was passed as a callback.
    """

    def __init__(
        self,
        *,
        link_class: Callable[..., LinkT],
        nursery: trio.Nursery,
        flusher: Flusher,
        callback_handler: Callable[[Callable[..., Any]], Handler],
        peer_id: str,
        name: str,
        limits: Limits,
        keepalive: Keepalive,
        connect_timeout: float,
        max_threads: int,
        debug: bool,
    ) -> None:
        check_name("the name of a peer", name)
        self.id = peer_id
        self.name = name
        self.limits = limits
        self.keepalive = keepalive
        self.connect_timeout = connect_timeout
        self.debug = debug
        self.flusher = flusher
        self.handlers: dict[str, Handler] = {}
        self.codecs: Mapping[str, Codec] = CODECS
        self.default_codec: Codec = CODECS["msgpack"]
        self.base_context = contextvars.copy_context()
        self.workers = Workers(nursery, self.base_context)
        self.threads = trio.CapacityLimiter(max_threads)
        self.make_callback_handler = callback_handler
        self._link_class = link_class
        self._nursery = nursery
        self._services: dict[str, ServiceT] = {}
        self._receivers: list[_PortReceiver[LinkT]] = []
        self._links: list[LinkT] = []
        self._changed = trio.Event()
        self._turn = 0
        self._unhealthy: set[str] = set()
        self._health_event = trio.Event()
        self._closed = False
        self._thread = threading.get_ident()
        self._hello: Hello | None = None

    # -- services --------------------------------------------------------------------------------------

    def serve(self, service: ServiceT) -> None:
        """Offer a service from now on, and tell everybody who is linked.

        Raises:
            ConfigurationError: a service of that name is offered already.
        """
        if service.name in self._services:
            raise ConfigurationError(f"this peer offers a service named {service.name!r} already")
        if len(self._services) >= MAX_SERVICES:
            raise ConfigurationError(f"a peer offers at most {MAX_SERVICES} services, its own two included")
        check_name(f"the version of service {service.name!r}", service.version)
        self._services[service.name] = service
        for method, handler in service.methods.items():
            self.handlers[f"{service.name}.{method}"] = handler
        self._hello = None
        for link in self._links:
            if link.connection.is_open:
                link.connection.announce(self._service_infos())
                link.touch()

    @property
    def services(self) -> Mapping[str, ServiceT]:
        """The services this peer offers, by name."""
        return dict(self._services)

    def _service_infos(self) -> tuple[ServiceInfo, ...]:
        return tuple(ServiceInfo(service.name, service.version) for service in self._services.values())

    def hello(self) -> Hello:
        """Return what this peer says of itself."""
        if self._hello is None:
            self._hello = Hello(
                PROTOCOL_NAME,
                *VERSIONS,
                self.id,
                self.name,
                codecs=tuple(self.codecs),
                limits=limits_info(self.limits),
                services=self._service_infos(),
            )
        return self._hello

    def explain_missing(self, target: str) -> str:
        """Return why there is no handler for a method, and what there is instead."""
        service, _, method = target.rpartition(".")
        found = self._services.get(service)
        if found is not None:
            return f"service {service!r} has no method {method!r}; it has {', '.join(sorted(found.methods))}"
        offered = ", ".join(sorted(name for name in self._services if not name.startswith("duplex.")))
        if not service:
            return f"a method is named service.method, not {target!r}; services here: {offered or 'none'}"
        return f"there is no service {service!r} at this peer; it offers {offered or 'none'}"

    def judge(self, remote: Hello) -> tuple[str, str] | None:
        """Return why a peer that introduced itself is refused, or ``None``."""
        if len(self._links) >= self.limits.max_links:
            return "limit", f"this peer has {len(self._links)} links, the limit (Limits.max_links)"
        return None

    # -- endpoints -------------------------------------------------------------------------------------

    def _options(self) -> TransportOptions:
        limits = limits_info(self.limits)
        return TransportOptions(
            max_frame=max_frame(limits),
            receive_queue=most_waiting(limits),
            heartbeat_interval=self.keepalive.interval,
            heartbeat_timeout=self.keepalive.timeout,
        )

    def _open_port(self, endpoint: str, *, connecting: bool) -> _PortReceiver[LinkT]:
        self.check_thread()
        if self._closed:
            raise trio.ClosedResourceError("this peer is closed")
        if not isinstance(endpoint, str):
            raise ConfigurationError(f"an endpoint is a str such as 'tcp://127.0.0.1:7700', not {endpoint!r}")
        transport = transport_for(endpoint)
        receiver: _PortReceiver[LinkT] = _PortReceiver(self, endpoint, connecting=connecting)
        make = transport.connect if connecting else transport.bind
        receiver.port = make(endpoint, receiver, self._options())
        self._receivers.append(receiver)
        self.spawn(receiver.port.run, name=f"duplex port {endpoint}")
        return receiver

    async def bind(self, endpoint: str) -> str:
        """Take links at an endpoint, and return the real one.

        Args:
            endpoint: such as ``tcp://127.0.0.1:*`` (any free port), ``ipc:///run/x``, ``inproc://x``.

        Raises:
            ConfigurationError: it is malformed.
            BindError: it cannot be bound.
        """
        await trio.lowlevel.checkpoint()
        receiver = self._open_port(endpoint, connecting=False)
        return receiver.port.endpoint

    async def connect(self, endpoint: str, *, timeout: float | None = None) -> LinkT:
        """Connect to an endpoint and return the link, once both sides have greeted.

        When the link is lost, the peer keeps trying to connect, and a new link takes its place, until
        :meth:`disconnect`.

        Args:
            endpoint: where the other peer is bound.
            timeout: seconds; ``None`` for the peer's ``connect_timeout``.

        Raises:
            ConfigurationError: the endpoint is malformed.
            ConnectError: no link within the timeout; nothing goes on trying.
            HandshakeError: the other side refused.

        Cancelled means not connected.
        """
        seconds = self.connect_timeout if timeout is None else timeout
        receiver = self._open_port(endpoint, connecting=True)
        link: LinkT | None = None
        try:
            with trio.move_on_after(seconds):
                link = await self._wait_link(receiver)
            if link is None:
                raise ConnectError(self._why_not(receiver, seconds))
        finally:
            if link is None:
                self._close_port(receiver)
        return link

    async def _wait_link(self, receiver: _PortReceiver[LinkT]) -> LinkT:
        await trio.lowlevel.checkpoint()
        while True:
            for link in receiver.links.values():
                if link.connection.is_open:
                    return link
            if receiver.refusal is not None:
                raise receiver.refusal
            if self._closed:
                raise trio.ClosedResourceError("this peer was closed while it connected")
            if receiver.closed:
                raise ConnectError(f"no link to {receiver.requested}: it was disconnected while it connected")
            await self._changed.wait()

    @staticmethod
    def _why_not(receiver: _PortReceiver[LinkT], seconds: float) -> str:
        if receiver.attempts:
            why = "something answers there, but it did not greet as a Duplex peer does"
        elif receiver.port.last_error:
            why = receiver.port.last_error
        else:
            why = "nothing answers there"
        return f"no link to {receiver.requested} within {seconds:g} s: {why}"

    async def unbind(self, endpoint: str) -> None:
        """Stop taking links at an endpoint and close those that came through it.

        Raises:
            ConfigurationError: it is not bound; the message lists what is.
        """
        await self._close_endpoint(endpoint, connecting=False)

    async def disconnect(self, endpoint: str) -> None:
        """Close the link to an endpoint and stop connecting to it.

        Raises:
            ConfigurationError: it is not connected; the message lists what is.
        """
        await self._close_endpoint(endpoint, connecting=True)

    async def _close_endpoint(self, endpoint: str, *, connecting: bool) -> None:
        await trio.lowlevel.checkpoint()
        candidates = [r for r in self._receivers if r.connecting is connecting]
        for receiver in candidates:
            if endpoint in (receiver.requested, receiver.port.endpoint):
                self._close_port(receiver)
                return
        known = ", ".join(receiver.port.endpoint for receiver in candidates) or "nothing"
        raise ConfigurationError(f"{endpoint!r} is not {'connected' if connecting else 'bound'}; {known} is")

    def _close_port(self, receiver: _PortReceiver[LinkT]) -> None:
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        receiver.closed = True
        for link in list(receiver.links.values()):
            link.say_goodbye("closing")
        receiver.port.close()
        self._announce_change()

    @property
    def endpoints(self) -> list[str]:
        """The real endpoints this peer is bound to."""
        return [receiver.port.endpoint for receiver in self._receivers if not receiver.connecting]

    def close(self) -> None:
        """Say goodbye on every link and close every port. Idempotent. Does not wait."""
        self._closed = True
        for receiver in list(self._receivers):
            self._close_port(receiver)
        self._announce_change()

    async def watch_links(self) -> None:
        """Ping every link now and then, so that a transport which knows the other side to be gone says so, and
        end those whose other side has connected here and does not greet."""
        while True:
            due = trio.current_time() + self.keepalive.interval
            await trio.sleep_until(due)
            now = trio.current_time()
            delay, latest = now - due, now - self.keepalive.timeout
            for receiver in list(self._receivers):
                for link in list(receiver.links.values()):
                    if link.connection.is_open:
                        link.ping_now(delay)
                    elif not link.connecting and link.made_at <= latest:
                        link.lose(f"it did not greet within {self.keepalive.timeout:g} s")

    # -- health ----------------------------------------------------------------------------------------

    def health_of(self, service: str) -> bool:
        """Whether a service, or with an empty name the peer as a whole, takes calls."""
        return not self._closed and service not in self._unhealthy and "" not in self._unhealthy

    def set_health(self, service: str, *, serving: bool) -> None:
        """Say whether a service takes calls, for whoever checks; the empty name stands for the whole peer.

        Raises:
            ConfigurationError: there is no such service.
        """
        if service and service not in self._services:
            raise ConfigurationError(f"this peer offers no service named {service!r}")
        if serving:
            self._unhealthy.discard(service)
        else:
            self._unhealthy.add(service)
        self._health_event.set()
        self._health_event = trio.Event()

    async def health_changed(self) -> None:
        """Return when :meth:`set_health` was called."""
        await self._health_event.wait()

    # -- links -----------------------------------------------------------------------------------------

    @property
    def links(self) -> list[LinkT]:
        """The links that are open now."""
        return list(self._links)

    def make_link(self, port: Port, carrier: Carrier, *, connecting: bool) -> LinkT:
        """Make the link for a carrier that came up."""
        return self._link_class(self, port, carrier, connecting=connecting)

    def link_opened(self, link: Any) -> None:
        """A handshake is done."""
        self._links.append(link)
        self._announce_change()

    def link_lost(self, link: BaseLink, reason: str, *, was_open: bool) -> None:
        """A link is over."""
        for receiver in self._receivers:
            if receiver.port is link.port:
                receiver.forget(link)
        if link in self._links:
            self._links.remove(link)
            if not self._closed:
                logger.info("the link to %s over %s ended: %s", link.peer_name, link.endpoint, reason)
        self._announce_change()

    def offers_changed(self) -> None:
        """A linked peer offers other services than before."""
        self._announce_change()

    def _announce_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` if this is not the thread whose event loop the peer belongs to: tasks of
        another loop would wait for ever, and break this one."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "this peer belongs to the event loop of another thread; from a thread of that loop's, call "
                "trio.from_thread.run(...), and in a program with several loops open a peer in each"
            )

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any, name: str | None = None) -> None:
        """Run something of the peer's own until it ends or the peer does, in the peer's context, not that of
        whoever asks for it."""
        start = functools.partial(self._nursery.start_soon, function, *args, name=name)
        self.base_context.copy().run(start)

    def pick_now(self, service: str) -> LinkT | None:
        """Return a link whose peer offers a service, the next one in turn; ``None`` if there is none."""
        links = self._links
        count = len(links)
        for step in range(count):
            link = links[(self._turn + step) % count]
            if service in link.offers and link.connection.can_open:
                self._turn = (self._turn + step + 1) % count
                return link
        return None

    async def pick(self, service: str) -> LinkT:
        """Return a link whose peer offers a service, waiting up to the connect timeout for one.

        Raises:
            Unavailable: there is none; the message says what is linked and what they offer.
            Unimplemented: all linked peers answer that they do not offer it.
        """
        self.check_thread()
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise self._nobody(service, "this peer is closed")
        link = self.pick_now(service)
        if link is not None:
            return link
        if not self._receivers:
            await trio.lowlevel.checkpoint()
            raise self._nobody(
                service, "this peer has not connected or bound anywhere: await peer.connect(...) first"
            )
        if self._links and not self._still_connecting():
            # Whoever offers it but takes no more calls says so; anybody else answers with what it has.
            return next((link for link in self._links if service in link.offers), self._links[0])
        with trio.move_on_after(self.connect_timeout):
            while True:
                await self._changed.wait()
                if self._closed:
                    raise self._nobody(service, "this peer was closed")
                link = self.pick_now(service)
                if link is not None:
                    return link
        raise self._nobody(
            service, f"no link offers it within {self.connect_timeout:g} s; {self._situation()}"
        )

    def _still_connecting(self) -> bool:
        return any(receiver.connecting and not receiver.links for receiver in self._receivers)

    def _situation(self) -> str:
        parts = [f"{link.peer_name} offers {', '.join(link.offers) or 'nothing'}" for link in self._links]
        parts += [
            f"{receiver.requested} is not linked ({receiver.port.last_error or 'no answer'})"
            for receiver in self._receivers
            if receiver.connecting and not receiver.links
        ]
        return "; ".join(parts) or "nobody is linked"

    @staticmethod
    def _nobody(service: str, why: str) -> Unavailable:
        error = Unavailable(f"service {service!r} is not available: {why}")
        error.may_have_executed = False
        return error
