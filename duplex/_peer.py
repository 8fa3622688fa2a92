"""What a program holds of the engine: :class:`Peer` and :class:`Link`. Each holds its inside, and shows what is documented."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NoReturn, Protocol, TypeVar, cast, final, overload

import trio

from duplex._authentication import Credentials
from duplex._balancing import Balancing
from duplex._config import Advertise
from duplex._errors import ConfigurationError
from duplex._made import Made
from duplex._numbers import check_seconds
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex._registering import Registering
from duplex.client import ServiceProxy, typed_proxy
from duplex.client._callers import Callers
from duplex.client._middleware import CallingMiddleware
from duplex.client._options import Options
from duplex.client._proxy import Route
from duplex.client.following import Connections, FollowedService, Named, ask_once
from duplex.engine._counting import MethodStatistics
from duplex.engine._engine import Engine
from duplex.engine._peer_info import PeerInfo
from duplex.engine._statistics import LinkStatistics, PeerStatistics
from duplex.engine.calling import Caller
from duplex.engine.links import CallInfo, Session, calls_of, drain
from duplex.engine.serving import ServingMiddleware
from duplex.resolvers import Endpoint, Known, Linking, Resolver, check_linkable, is_looked_up, resolver_for
from duplex.service import Service
from duplex.transports import TLS

T = TypeVar("T")


class _Concrete(Protocol):
    """Any class that is no ``Protocol``: type checkers let none of those pass for the class of another."""

    def __hash__(self) -> int: ...


ConcreteT = TypeVar("ConcreteT", bound=type[_Concrete])


def _proxy(route: Route, target: object, name: str | None, options: Options) -> Any:
    if isinstance(target, Service):
        target = target.name
    if isinstance(target, str):
        if not target:
            raise ConfigurationError("the name of a service must not be empty")
        if name is not None:
            raise ConfigurationError("name= goes with a class; a service given by name has it already")
        return ServiceProxy(route, target, options)
    if isinstance(target, type):
        return typed_proxy(route, target, name, options)
    raise ConfigurationError(f"a service is given by its name or by a class, not {target!r}")


def _check_text(what: str, value: object, *, empty: bool) -> None:
    if not isinstance(value, str) or not (value or empty):
        raise ConfigurationError(
            f"{what} must be a str{'' if empty else ' that is not empty'}, not {value!r}"
        )


def _service_names(wait: object) -> frozenset[str]:
    names = [wait] if isinstance(wait, str) else list(wait) if isinstance(wait, Iterable) else [None]
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(f"wait must be the name of a service, or several, not {wait!r}")
    return frozenset(cast("list[str]", names))


def _check_no_weight(endpoint: str, weight: float) -> None:
    if weight != 1.0:
        raise ConfigurationError(
            f"the instances that {endpoint} names have weights of their own; give no weight="
        )


@final
class Link(metaclass=Made):
    """One established connection to another peer, over which both sides call. Made by the peer."""

    _MADE_BY = "await peer.connect(endpoint) returns one, and peer.links has those there are"

    __slots__ = ("_inside", "_peer")

    def __init__(self, inside: Session, peer: Peer) -> None:
        self._inside = inside
        self._peer = peer

    def __repr__(self) -> str:
        return f"<Link to {self.peer_name} over {self.endpoint}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to its peer and can be neither copied nor pickled")

    @property
    def peer(self) -> Peer:
        """The peer at this side, which the link belongs to."""
        return self._peer

    @property
    def remote(self) -> PeerInfo:
        """The other peer: its id, its name, and who it is as far as it has been proved."""
        return self._inside.remote

    @property
    def peer_id(self) -> str:
        """The other peer's id: random, made when its process opened it."""
        return self._inside.peer_id

    @property
    def peer_name(self) -> str:
        """The other peer's name, or its id if it has none. What cannot be printed in it is escaped."""
        return self._inside.peer_name

    @property
    def endpoint(self) -> str:
        """The endpoint that this side bound or connected."""
        return self._inside.endpoint

    @property
    def services(self) -> Mapping[str, str]:
        """The services that the other side offers: name to version."""
        return {name: info.version for name, info in self._inside.offers.items()}

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._inside.is_open

    @overload
    def service(self, target: str | Service) -> ServiceProxy: ...

    @overload
    def service(self, target: ConcreteT, *, name: str | None = None) -> ConcreteT: ...

    @overload
    def service(self, target: Callable[..., T], *, name: str | None = None) -> T: ...

    def service(self, target: Any, *, name: str | None = None) -> Any:
        """Return a proxy whose calls all take this link. Arguments as in :meth:`Peer.service`."""
        inside = self._inside
        route = self._peer._callers.over_one_link(inside.caller)
        return _proxy(route, target, name, Options(inside.engine.default_codec))

    async def ping(self) -> float:
        """Return the seconds that a message to the other peer's event loop and back takes.

        Raises:
            Unavailable: the link is over. Bound the time with a trio cancel scope.
        """
        return await self._inside.ping()

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        return self._inside.statistics()

    async def wait_closed(self) -> None:
        """Return once the link is over."""
        await self._inside.wait_closed()

    def leave(self) -> None:
        """Begin to leave the link: no new call goes over it, in either direction; it closes when those under way have ended,
        streams included, however long that takes. Idempotent. :meth:`wait_closed` waits for that.

        Calls of services go to other links, and calls that need this one fail with ``Unavailable``. This side does not
        connect there again; if it was the other side that connected, that one does.
        """
        self._inside.engine.check_thread()
        self._inside.part()

    async def aclose(self) -> None:
        """Say goodbye and close the link; calls that run on it fail with ``PeerLost``. Idempotent.

        A peer that connected here connects again, unless it disconnects.
        """
        self._inside.engine.check_thread()
        self._inside.say_goodbye("closing")
        await trio.lowlevel.checkpoint()


@final
class Peer(metaclass=Made):
    """One process's end of everything: binds and connects, serves and calls. Made by :func:`open_peer`."""

    _MADE_BY = "async with duplex.open_peer(...) as peer"

    __slots__ = ("_callers", "_connections", "_inside", "_named", "_registering")

    def __init__(
        self,
        *,
        balancer: Balancing,
        circuit_breaker: CircuitBreaker | None,
        outlier_detection: OutlierDetection | None,
        call_middleware: tuple[CallingMiddleware, ...],
        discovery: tuple[str, ...],
        advertise: Advertise,
        credentials: Credentials | None,
        tls: TLS | None,
        **options: Any,
    ) -> None:
        self._inside: Engine[Service] = Engine(
            publish=self._publish,
            caller_of_callbacks=self._caller_of_callbacks,
            credentials=credentials,
            tls=tls,
            **options,
        )
        self._callers = Callers(self._inside, balancer, circuit_breaker, outlier_detection, call_middleware)
        self._connections = Connections(self._inside)
        self._named = Named(self._inside, lambda: self._inside.links, self._follow)
        self._registering = Registering(
            self._inside, discovery, advertise, Linking(credentials=credentials, tls=tls)
        )

    def _caller_of_callbacks(self, link: Caller) -> Caller:
        return self._callers.of_callbacks(link)

    def _publish(self, link: Session) -> Link:
        return Link._make(link, self)

    def __repr__(self) -> str:
        return f"<Peer {self.name or self.id} with {len(self._inside.links)} links>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to its event loop and can be neither copied nor pickled")

    @property
    def id(self) -> str:
        """Random, made when the peer was opened."""
        return self._inside.id

    @property
    def name(self) -> str:
        """What :func:`open_peer` was given: for humans, in errors and listings of other peers."""
        return self._inside.name

    # -- what it offers --------------------------------------------------------------------------------

    @property
    def services(self) -> Mapping[str, Service]:
        """The services this peer offers, by name."""
        return self._inside.services.services

    def add_service(self, service: Service) -> None:
        """Offer a service from now on; peers that are linked learn of it.

        Raises:
            ConfigurationError: a service of that name is offered already, or cannot be registered, or this is no service.
        """
        if not isinstance(service, Service):
            raise ConfigurationError(
                f"a service is made with duplex.Service(name) or from a module, not {type(service).__name__}; "
                f"an object with @duplex.rpc methods is offered with peer.expose(obj, name=...)"
            )
        self._inside.check_thread()
        self._registering.check_service(service.name)
        self._inside.services.add(service)
        self._registering.look()

    def expose(
        self,
        obj: object,
        *,
        name: str | None = None,
        version: str = "0.0.0",
        middleware: Iterable[ServingMiddleware] = (),
    ) -> Service:
        """Offer the decorated methods of an object as a service, and return the service.

        Args:
            obj: an instance with methods under ``@duplex.rpc``; or a module with such functions.
            name: the service's name; by default made from the class's (``UserStore`` gives ``user_store``).
            version: the service's version.
            middleware: what runs around every method, the outermost first: see :class:`ServingMiddleware`.

        Raises:
            ConfigurationError: nothing is decorated, or the name is taken.
        """
        if isinstance(obj, ModuleType):
            service = Service.from_module(obj, name=name, version=version, middleware=middleware)
        else:
            service = Service.from_object(obj, name=name, version=version, middleware=middleware)
        self.add_service(service)
        return service

    def set_health(self, service: str, *, serving: bool) -> None:
        """Say whether a service takes calls, for those who check; the empty name stands for the whole peer.

        Raises:
            ConfigurationError: there is no such service.
        """
        self._inside.check_thread()
        self._inside.services.set_health(service, serving=serving)

    def probe_health(
        self,
        service: str,
        probe: Callable[[], Awaitable[object]],
        *,
        ttl: float = 5.0,
        timeout: float = 5.0,
    ) -> None:
        """Have a function find out whether a service takes calls, when somebody asks for it and not before.

        Args:
            service: its name; the empty name stands for the whole peer.
            probe: ``async def`` without arguments. What it returns is taken as true or false; if it raises, or does not
                return in time, the service takes no calls. One that was given before is not asked any more.
            ttl: seconds for which its answer holds. While somebody watches the service, it is asked as often.
            timeout: seconds that it has.

        What :meth:`set_health` says comes first.

        Raises:
            ConfigurationError: there is no such service, or an argument is wrong.
        """
        self._inside.check_thread()
        self._inside.services.probe_health(service, probe, ttl=ttl, timeout=timeout)

    # -- calls -----------------------------------------------------------------------------------------

    @overload
    def service(self, target: str | Service) -> ServiceProxy: ...

    @overload
    def service(self, target: ConcreteT, *, name: str | None = None) -> ConcreteT: ...

    @overload
    def service(self, target: Callable[..., T], *, name: str | None = None) -> T: ...

    def service(self, target: Any, *, name: str | None = None) -> Any:
        """Return a proxy for a remote service. Its calls are shared out among the linked peers that offer it, as
        ``balancer`` of :func:`open_peer` says.

        Args:
            target: the service's name, for a dynamic proxy; or a class whose annotations type the proxy and
                check the results: a ``Protocol``, or the service's own class, with methods under ``@duplex.rpc``.
            name: the service's name, if the class's does not say it.

        To a type checker, the proxy of a ``Protocol`` is an object of it. The proxy of a service's own class is
        that class, not an object of it, because an object's methods are called here and not over a link: of
        the class, each decorated method is a :class:`Unary` or a :class:`Streaming`.
        """
        return _proxy(self._callers, target, name, Options(self._inside.default_codec))

    def resolving(self, service: str) -> AbstractContextManager[None]:
        """Let calls to a service wait while somebody finds out where it is: ``with peer.resolving("calc"): ...``.

        A call to a service that no linked peer offers waits if this peer is bound, or connects somewhere, for those
        who may come. Otherwise it fails at once with ``Unimplemented``. In this block it waits too, as long as the block
        runs, up to the peer's ``connect_timeout``. Connect within, with :meth:`connect` or :meth:`connect_soon`.

        Args:
            service: its name.
        """
        self._inside.check_thread()
        return self._inside.table.resolving(service)

    def calls(self) -> list[CallInfo]:
        """List the calls that are under way at this peer, in both directions, the oldest first.

        What hangs, and on whom, can be read off it. A snapshot; from any code of the peer's thread, a signal
        handler too.
        """
        self._inside.check_thread()
        return calls_of(self._inside)

    def statistics(self) -> PeerStatistics:
        """Return a snapshot of what concerns the peer as a whole; a link has :meth:`Link.statistics` of its own."""
        return self._inside.statistics()

    def method_statistics(self) -> list[MethodStatistics]:
        """Return what was counted of the calls of each method, in both directions, sorted by method.

        A snapshot; empty if the peer was opened with ``stats=False``.
        """
        return self._inside.method_statistics()

    # -- endpoints and links ---------------------------------------------------------------------------

    async def bind(self, endpoint: str) -> str:
        """Take links at an endpoint, and return the real one.

        Args:
            endpoint: such as ``tcp://127.0.0.1:*`` (any free port), ``ipc:///run/x``, ``inproc://x``.

        Raises:
            ConfigurationError: it is malformed; or the peer is to be registered, and others cannot be told how to reach it there.
            BindError: it cannot be bound.
        """
        self._registering.check_bind(endpoint)
        real = await self._inside.ports.bind(endpoint)
        self._registering.look()
        return real

    async def connect(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        weight: float = 1.0,
        wait: str | Iterable[str] = (),
    ) -> Link:
        """Connect to an endpoint and return the link, once both sides have greeted, and so know what the other offers.

        When the link is lost, the peer keeps trying to connect, with pauses as ``reconnect`` of
        :func:`open_peer` has them, and a new link takes its place, until :meth:`disconnect`.

        Args:
            endpoint: where the other peer is bound; or ``discovery://calc``, to connect to all instances of a service that are
                registered and serve, as :meth:`connect_service` does; then this returns the first link to one of them.
            timeout: seconds; ``None`` for the peer's ``connect_timeout``, ``math.inf`` without end.
            weight: how many calls the other peer gets, as a multiple of what others get; from 0.001 to 1000. It is that of
                the endpoint, until it is connected with another one, or disconnected.
            wait: the name of a service, or several, that the other peer has to offer before this returns. It may add them, or be
                followed by another peer at the same endpoint that offers them.

        Raises:
            ConfigurationError: the endpoint is malformed, or the weight or the services are wrong.
            ConnectError: no link within the timeout, or none that offers all of them; nothing goes on trying.
            HandshakeError: the other side refused.

        Cancelled means not connected.
        """
        services = _service_names(wait)
        if is_looked_up(endpoint):
            _check_no_weight(endpoint, weight)
            seconds = self.connect_timeout if timeout is None else timeout
            check_seconds("timeout", seconds, forever=True)
            named = self._registering.look_up(endpoint)
            link = await self._named.connect(endpoint, *named, seconds, services)
        else:
            check_linkable(endpoint, self._inside.transports)
            link = await self._inside.ports.connect(endpoint, timeout, weight, services)
        return cast("Link", link.public)

    def connect_soon(self, endpoint: str, *, weight: float = 1.0) -> None:
        """Begin to connect to an endpoint, and go on until there is a link, be the other peer there yet or not.

        Calls wait for the link as they do for one that was lost. All else is as for :meth:`connect`.

        Raises:
            ConfigurationError: the endpoint is malformed, or the weight is wrong.
        """
        if is_looked_up(endpoint):
            _check_no_weight(endpoint, weight)
            self._named.connect_soon(endpoint, *self._registering.look_up(endpoint))
        else:
            check_linkable(endpoint, self._inside.transports)
            self._inside.ports.connect_soon(endpoint, weight)

    async def look_up(
        self,
        where: Resolver | str | Iterable[str | Endpoint],
        *,
        service: str = "",
        timeout: float | None = None,
    ) -> Known:
        """Return where a service is, once, and connect nowhere: ``await peer.look_up("discovery://calc")``.

        Args:
            where: as for :meth:`connect_service`.
            service: its name, for those who need it; ``discovery://calc`` has it already.
            timeout: seconds; ``None`` for the peer's ``connect_timeout``.

        Returns:
            The endpoints, with what is wrong with them, if anything is: that they are old, or come from a file.

        Raises:
            ConfigurationError: an argument is wrong.
            ConnectError: there are none, or that cannot be found out in time; the message says why.
        """
        seconds = self.connect_timeout if timeout is None else timeout
        check_seconds("timeout", seconds, forever=True)
        _check_text("the name of a service", service, empty=True)
        self._inside.check_thread()
        resolver = resolver_for(where, self._inside.transports, self._registering.directory)
        return await ask_once(resolver, service, seconds)

    def connect_service(
        self,
        service: str,
        where: Resolver | str | Iterable[str | Endpoint],
        *,
        zone: str = "",
        empty_after: float = 30.0,
    ) -> FollowedService:
        """Begin to follow where a service is: connect to the endpoints that are named, and *leave* those that are named no
        longer, so that calls that run there end.

        Calls to the service wait until it is known where it is, and for links, as they do for those that were lost. To a
        peer that is named several times, under different endpoints or for several services, there is one link. Endpoints
        that the program has connected itself are used, and not left.

        If the resolver fails it is called again after a pause, and what was known stays.

        Args:
            service: its name.
            where: a :class:`Resolver`; or endpoints, which do not change; or a text such as ``discovery://calc``,
                ``file:///etc/calc.json`` or ``dns:///calc.internal:7700``, see :mod:`duplex.resolvers`.
            zone: if any endpoint is in this zone, only those are connected; empty: all.
            empty_after: seconds for which a resolver has to name no endpoints before that is believed, if it named some before;
                0: at once, ``math.inf``: never.

        Returns:
            What is known at any time, and by which it is followed no longer.

        Raises:
            ConfigurationError: an argument is wrong; what is wrong with single endpoints that a resolver names later is logged.
            trio.ClosedResourceError: the peer is closed, or drains.
        """
        self._inside.check_thread()
        _check_text("the name of a service", service, empty=False)
        _check_text("zone", zone, empty=True)
        check_seconds("empty_after", empty_after, forever=True)
        resolver = resolver_for(where, self._inside.transports, self._registering.directory)
        if self._inside.is_closed or self._inside.is_draining:
            raise trio.ClosedResourceError("this peer is closed, or drains, and connects nowhere")
        return self._follow(service, resolver, zone, empty_after)

    def _follow(
        self, service: str, resolver: Resolver, zone: str = "", empty_after: float = 30.0
    ) -> FollowedService:
        return FollowedService._make(self._inside, self._connections, service, resolver, zone, empty_after)

    async def unbind(self, endpoint: str) -> None:
        """Stop taking links at an endpoint and close those that came through it.

        Raises:
            ConfigurationError: it is not bound; the message lists what is.
        """
        await self._inside.ports.unbind(endpoint)
        self._registering.look()

    async def disconnect(self, endpoint: str) -> None:
        """Close the link to an endpoint and stop connecting to it. Links to ``discovery://calc`` are left, as :meth:`Link.leave` does.

        Raises:
            ConfigurationError: it is not connected; the message lists what is.
        """
        if is_looked_up(endpoint):
            self._inside.check_thread()
            await trio.lowlevel.checkpoint()
            self._named.disconnect(endpoint)
        else:
            await self._inside.ports.disconnect(endpoint)

    @property
    def connect_timeout(self) -> float:
        """Seconds that :meth:`connect`, and calls without a link, wait for one."""
        return self._inside.connect_timeout

    @property
    def endpoints(self) -> list[str]:
        """The real endpoints this peer is bound to."""
        return self._inside.ports.bound

    @property
    def links(self) -> list[Link]:
        """The links that are open now."""
        return [cast("Link", link.public) for link in self._inside.links]

    # -- the end ---------------------------------------------------------------------------------------

    async def drain(self, timeout: float = 30.0) -> None:
        """Leave in order: take no new calls, let those that run finish, and close the peer.

        What is registered is withdrawn first. Health turns to ``NOT_SERVING``, every linked peer is told to send its calls elsewhere, and new links
        are refused. Then the calls that this peer serves, and the unary calls that it makes, may finish;
        what its handlers call in turn is still made. What runs on after the timeout is cancelled, and
        fails at its caller with ``Unavailable``. Last, once the other sides have what was sent to them, links
        and sockets are closed. Streams that this peer opened itself do not hold it up: they end with the links.

        Args:
            timeout: seconds for the calls; 0 cancels them at once, ``math.inf`` gives them all the time they need.

        May be called again, and by several tasks. Cancelled, it stops to wait: the peer takes no new calls
        and is not closed, so that :meth:`aclose` or another :meth:`drain` has to follow.
        """
        check_seconds("the timeout of drain()", timeout, forever=True)
        self._inside.check_thread()
        if not self._inside.is_closed:
            await self._registering.withdraw_and_wait()
        await drain(self._inside, timeout)

    async def aclose(self) -> None:
        """Withdraw what is registered, say goodbye on every link and close every port. Calls that run fail. Idempotent."""
        self._inside.check_thread()
        await self._registering.withdraw()
        self._inside.close()
        await trio.lowlevel.checkpoint()
