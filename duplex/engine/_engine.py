"""The inside of a peer: its ports, its links, what it serves, and how a call finds a link."""

from __future__ import annotations

import bisect
import contextvars
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Protocol, TypeVar, final

import trio

from duplex._balancing import check_weight
from duplex._config import Idempotency, Keepalive, Limits, Reconnect
from duplex._errors import ConfigurationError
from duplex._metadata import IDEMPOTENCY_FEATURE
from duplex._numbers import check_seconds
from duplex.codec import CODECS, Codec
from duplex.engine._handler import Handler
from duplex.engine._log import logger
from duplex.engine._public_link import PublicLink
from duplex.engine._runs import EventLoop, check_run
from duplex.engine._shares import GREED, may_hold_more
from duplex.engine._statistics import PeerStatistics
from duplex.engine.calling import CallCounts, Situation, Timers
from duplex.engine.channels import Dropped
from duplex.engine.links import CallInfo, Follower, LinkTable, Ports, Session, SlowPeers, calls_of, drain
from duplex.engine.serving import BUILTIN, Observer, Reception, ResultCache, ServedChannel, ServingMiddleware
from duplex.engine.serving._admission import Admission
from duplex.engine.serving._callbacks import Callbacks
from duplex.engine.tasks import Flusher, Workers
from duplex.engine.threads import Threads
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
#: The peers of this process, which its forks must not use.
_engines: Final[weakref.WeakSet[Engine[Any]]] = weakref.WeakSet()


@trio.lowlevel.enable_ki_protection
async def _protected(function: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Run something of the engine's own. Ctrl-C then strikes the program's code, and not half-way through what
    links and sockets keep in order."""
    await function(*args)


def _disown() -> None:
    """In a forked child: no thread of it is that of its parent's peers."""
    for engine in _engines:
        engine.disown()


os.register_at_fork(after_in_child=_disown)


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
class Engine(Generic[ServiceT]):
    """The inside of a peer, which the program sees as a :class:`duplex.Peer`.

    Args:
        publish: makes what the program sees of a link.
        nursery: the parent of all the peer's tasks.
        flusher: the flusher of the present run.
        callback_handler: makes a handler of a function that was passed as a callback.
        observer: is told of calls that are answered without being run.
        middleware: what runs around every handler, the outermost first.
    """

    def __init__(
        self,
        *,
        publish: Callable[[Session], PublicLink],
        nursery: trio.Nursery,
        flusher: Flusher,
        callback_handler: Callable[[Callable[..., Any]], Handler],
        peer_id: str,
        name: str,
        limits: Limits,
        keepalive: Keepalive,
        reconnect: Reconnect,
        connect_timeout: float,
        max_threads: int,
        debug: bool,
        idempotency: Idempotency,
        observer: Observer | None = None,
        middleware: Sequence[ServingMiddleware] = (),
    ) -> None:
        check_name("the name of a peer", name)
        self.id = peer_id
        self.name = name
        self.limits = limits
        self.keepalive = keepalive
        self.reconnect = reconnect
        self.connect_timeout = connect_timeout
        self.debug = debug
        self.flusher = flusher
        #: The present time, as :func:`trio.current_time` tells it, in half the time that one takes.
        self.clock: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.handlers: dict[str, Handler] = {}
        self.codecs: Mapping[str, Codec] = CODECS
        self.default_codec: Codec = CODECS["msgpack"]
        self.base_context = contextvars.copy_context()
        self.admission: Admission = Admission(self)
        self.callbacks = Callbacks(limits)
        self.workers: Workers = Workers(nursery, self.base_context, flusher, self.clock)
        self.timers = Timers(self.spawn)
        self.call_counts = CallCounts()
        self.loop = EventLoop()
        self.threads = Threads(max_threads, self.spawn, flusher.interpreter)
        #: Notifications that run, or are about to, and whose links are gone (an ordered set).
        self.left_behind: dict[ServedChannel, None] = {}
        self.results = ResultCache(idempotency)
        self.reception: Reception = Reception(self)
        self.observer = observer
        self._middleware = middleware
        self.make_callback_handler = callback_handler
        self.dropped = Dropped()
        self.slow = SlowPeers()
        self.publish = publish
        self._nursery = nursery
        self._services: dict[str, ServiceT] = {}
        self.ports: Ports = Ports(self)
        self.table: LinkTable = LinkTable()
        self._unhealthy: set[str] = set()
        self._health_event = trio.Event()
        self.is_closed = False
        #: No new calls are taken.
        self.is_draining = False
        #: Set, and replaced, when a call has ended on a link that is being left.
        self.call_ended = trio.Event()
        self._thread = threading.get_ident()
        self._process = os.getpid()
        _engines.add(self)
        self._hello: Hello | None = None

    # -- services --------------------------------------------------------------------------------------

    def serve(self, service: ServiceT) -> None:
        """Offer a service from now on, and tell everybody who is linked.

        Raises:
            ConfigurationError: a service of that name is offered already.
        """
        self.check_thread()
        if service.name in self._services:
            raise ConfigurationError(f"this peer offers a service named {service.name!r} already")
        if len(self._services) >= MAX_SERVICES:
            raise ConfigurationError(f"a peer offers at most {MAX_SERVICES} services, its own two included")
        check_name(f"the version of service {service.name!r}", service.version)
        self._services[service.name] = service
        for method, handler in service.methods.items():
            self.handlers[f"{service.name}.{method}"] = handler.behind(self._middleware)
        self._hello = None
        for link in self.table.links:
            if link.connection.is_open:
                link.connection.announce(self._service_infos())
                link.touch()

    @property
    def is_behind(self) -> bool:
        """Whether more has come over links than is done in a turn."""
        return self.workers.is_behind

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
                features=(IDEMPOTENCY_FEATURE,),
                limits=limits_info(self.limits),
                services=self._service_infos(),
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

    def judge(self, address: str) -> tuple[str, str] | None:
        """Return why a peer at an address, as its carrier tells it, is refused, or ``None``."""
        if self.is_draining:
            return "draining", "this peer is draining and takes no new links"
        links = self.table.links
        most = self.limits.max_links
        if len(links) >= most:
            return "limit", f"this peer has {len(links)} links, the limit (Limits.max_links)"
        if GREED * (most - len(links)) < most:
            there = sum(link.carrier.address == address for link in links)
            if not may_hold_more(there, len(links), most):
                return "limit", (
                    f"this peer has {len(links)} links, {there} of them with {address}: the rest is for others "
                    f"(Limits.max_links: {most})"
                )
        return None

    # -- endpoints -------------------------------------------------------------------------------------

    async def bind(self, endpoint: str) -> str:
        """See :meth:`duplex.Peer.bind`."""
        check_run()
        await trio.lowlevel.checkpoint()
        return (await self.ports.bind(endpoint)).port.endpoint

    async def connect(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        weight: float = 1.0,
        services: Collection[str] = frozenset(),
    ) -> Session:
        """See :meth:`duplex.Peer.connect`."""
        check_run()
        if timeout is None:
            timeout = self.connect_timeout
        check_seconds("timeout", timeout, forever=True)
        return await self.ports.connect(endpoint, timeout, check_weight("weight", weight), services)

    def connect_soon(self, endpoint: str, *, weight: float = 1.0) -> None:
        """See :meth:`duplex.Peer.connect_soon`."""
        self.ports.open(endpoint, connecting=True, weight=check_weight("weight", weight))

    async def unbind(self, endpoint: str) -> None:
        """See :meth:`duplex.Peer.unbind`."""
        self.check_thread()
        check_run()
        await trio.lowlevel.checkpoint()
        self.ports.close_endpoint(endpoint, connecting=False)

    async def disconnect(self, endpoint: str) -> None:
        """See :meth:`duplex.Peer.disconnect`."""
        self.check_thread()
        check_run()
        await trio.lowlevel.checkpoint()
        self.ports.close_endpoint(endpoint, connecting=True)

    @property
    def endpoints(self) -> list[str]:
        """The real endpoints this peer is bound to."""
        return [receiver.port.endpoint for receiver in self.ports.receivers if not receiver.connecting]

    def close(self, linger: float | None = None) -> None:
        """Say goodbye on every link and close every port. Idempotent. Does not wait.

        Args:
            linger: seconds that what was handed to the transports has to get out; ``None`` for their default.
        """
        if linger is not None:
            check_seconds("linger", linger)
        self.is_closed = True
        self.ports.close_all(linger)
        self.admission.end()
        self.announce_change()

    async def drain(self, timeout: float = 30.0) -> None:
        """See :meth:`duplex.Peer.drain`."""
        await drain(self, timeout)

    # -- health ----------------------------------------------------------------------------------------

    def health_of(self, service: str) -> bool:
        """Whether a service, or with an empty name the peer as a whole, takes calls."""
        if self.is_closed or self.is_draining:
            return False
        return service not in self._unhealthy and "" not in self._unhealthy

    def set_health(self, service: str, *, serving: bool) -> None:
        """See :meth:`duplex.Peer.set_health`."""
        self.check_thread()
        if service and service not in self._services:
            raise ConfigurationError(f"this peer offers no service named {service!r}")
        if serving:
            self._unhealthy.discard(service)
        else:
            self._unhealthy.add(service)
        self.note_health()

    def note_health(self) -> None:
        """Health may be another than before."""
        self._health_event.set()
        self._health_event = trio.Event()

    async def health_changed(self) -> None:
        """Return when :meth:`set_health` was called, or the peer has begun to drain."""
        await self._health_event.wait()

    # -- links -----------------------------------------------------------------------------------------

    @property
    def links(self) -> list[Session]:
        """The links that are open now."""
        return list(self.table.links)

    def link_opened(self, link: Session) -> None:
        """A handshake is done."""
        if self.is_draining:
            # What finishes here may call over it; nobody is to call this peer.
            link.leave("draining", "the peer is draining")
        self.table.add(link)
        self.ports.link_opened(link)

    def link_left(self, link: Session, *, idle: bool) -> None:
        """No new calls go over a link, because one of its sides has said so."""
        self.ports.retire(link, idle=idle)
        self.table.note_change(link)

    def link_parted(self, link: Session) -> None:
        """This side leaves a link, and none is to take its place."""
        self.table.part(link)
        self.ports.part(link)

    def link_lost(self, link: Session, reason: str) -> None:
        """A link is over."""
        self.ports.link_over(link)
        if link in self.table.links:
            self.table.remove(link)
            if not self.is_closed:
                logger.info("the link to %s over %s ended: %s", link.peer_name, link.endpoint, reason)
        self.note_call_ended()
        self.announce_change()

    def note_call_ended(self) -> None:
        """A call has ended on a link that is being left, or such a link has."""
        self.call_ended.set()
        self.call_ended = trio.Event()

    def note_delay(self, link: Session, delay: float) -> None:
        """A linked peer has said how late its event loop runs, or has not answered for so many seconds."""
        self.table.note_delay(link, delay)

    def weight_changed(self, link: Session) -> None:
        """The peer of a link is to get more calls than before, or fewer."""
        self.table.note_change(link)

    def weight_of(self, link: Session) -> float:
        """Return how many calls the peer of a link is to get, as a multiple of what others get."""
        return self.ports.weight_of(link)

    def offers_changed(self, link: Session, before: Collection[str]) -> None:
        """A linked peer offers other services than before."""
        self.table.offers_changed(link, before)
        self.ports.link_opened(link)

    @property
    def changed(self) -> trio.Event:
        """Set when links, or what may come of connections, have changed."""
        return self.table.changed

    def announce_change(self) -> None:
        """Tell those who wait for a link to look again."""
        self.table.tell()

    def statistics(self) -> PeerStatistics:
        """See :meth:`duplex.Peer.statistics`."""
        results = self.results
        return PeerStatistics(
            links=len(self.table.links),
            keys_running=results.running,
            outcomes_remembered=results.remembered[0],
            outcomes_forgotten=results.forgotten,
            idempotency_bytes=results.size,
            outcomes_lost=results.lost,
            keys_refused=results.refused,
            retries=self.call_counts.retries,
            retries_throttled=self.call_counts.throttled,
            hedges=self.call_counts.hedges,
            ejections=self.call_counts.ejections,
        )

    def calls(self) -> list[CallInfo]:
        """See :meth:`duplex.Peer.calls`."""
        self.check_thread()
        return calls_of(self)

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` if this is not the thread whose event loop the peer belongs to: tasks of
        another loop would wait for ever, and break this one. The same for a process forked from the peer's."""
        if threading.get_ident() != self._thread:
            if os.getpid() != self._process:
                raise RuntimeError(
                    f"this peer belongs to process {self._process}, and this is a fork of it, which cannot use "
                    f"its sockets and tasks: open a peer in this process, and start it with the "
                    f"multiprocessing method 'spawn', or with subprocess, rather than by os.fork()"
                )
            raise RuntimeError(
                "this peer belongs to the event loop of another thread; from a thread of that loop's, call "
                "trio.from_thread.run(...), and in a program with several loops open a peer in each"
            )

    def disown(self) -> None:
        """Note that this process is a fork of the peer's: nothing may be sent on sockets that are not its own."""
        self._thread = -1
        for link in self.table.links:
            link.connection.terminate()

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any, name: str | None = None) -> None:
        """Run something of the peer's own until it ends or the peer does, in the peer's context, not that of
        whoever asks for it."""
        self.check_thread()
        start = functools.partial(self._nursery.start_soon, _protected, function, *args, name=name)
        self.base_context.copy().run(start)

    def spawn_here(self, function: Callable[..., Awaitable[object]], *args: Any, name: str) -> None:
        """Run something of the peer's own until it ends or the peer does, in the context of whoever asks for it."""
        self._nursery.start_soon(functools.partial(_protected, function, *args), name=name)

    def wake(self) -> None:
        """Connect again what was left because it was idle."""
        self.ports.wake()

    def situation(self, service: str) -> Situation:
        """Return what is known of a service to which no link takes a call at once."""
        table = self.table
        ports = self.ports
        return Situation(
            is_closed=self.is_closed,
            is_draining=self.is_draining,
            is_full=table.full_caller(service) is not None,
            is_resolving=table.is_resolving(service),
            is_followed=table.is_followed(service),
            is_connecting=ports.is_connecting or table.is_replaced(service),
            is_hopeful=ports.is_hopeful,
            is_bound=ports.is_bound,
            is_linked=table.is_linked,
        )

    def explain(self) -> str:
        """Say who is linked and offers what, and which endpoints are not linked, and why."""
        return "; ".join(self.table.who_offers_what() + self.ports.situation()) or "nobody is linked"

    def following(self, service: str, follower: Follower) -> AbstractContextManager[None]:
        """Note that somebody is told wherever a service is, while the block runs."""
        return self.table.following(service, follower)

    def resolving(self, service: str) -> AbstractContextManager[None]:
        """See :meth:`duplex.Peer.resolving`."""
        self.check_thread()
        return self.table.resolving(service)
