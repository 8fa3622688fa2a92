"""The public face of the engine: :func:`open_peer`, :class:`Peer` and :class:`Link`."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn, Protocol, TypeVar, cast, final, overload

import trio

from duplex._config import Idempotency, Keepalive, Limits, Reconnect
from duplex._errors import ConfigurationError
from duplex._made import Made
from duplex._numbers import check_seconds, check_whole
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.builtin import health_service, reflection_service
from duplex.client import ServiceProxy, typed_proxy
from duplex.client._callers import Callers
from duplex.client._options import Options
from duplex.client._proxy import CallerFor
from duplex.engine._link import BaseLink
from duplex.engine._peer import BasePeer
from duplex.engine._runs import check_run
from duplex.engine._watch import watch_links
from duplex.engine.serving import CALLBACK, Observer, ServingMiddleware, UnservedCall, checked_middleware
from duplex.engine.tasks import acquire_flusher, release_flusher
from duplex.service import Service, callback_spec

T = TypeVar("T")


class _Concrete(Protocol):
    """Any class that is no ``Protocol``: type checkers let none of those pass for the class of another."""

    def __hash__(self) -> int: ...


ConcreteT = TypeVar("ConcreteT", bound=type[_Concrete])


def _proxy(caller_for: CallerFor, target: object, name: str | None, options: Options) -> Any:
    if isinstance(target, Service):
        target = target.name
    if isinstance(target, str):
        if not target:
            raise ConfigurationError("the name of a service must not be empty")
        if name is not None:
            raise ConfigurationError("name= goes with a class; a service given by name has it already")
        return ServiceProxy(caller_for, target, options)
    if isinstance(target, type):
        return typed_proxy(caller_for, target, name, options)
    raise ConfigurationError(f"a service is given by its name or by a class, not {target!r}")


@final
class Link(BaseLink, metaclass=Made):
    """One established connection to another peer, over which both sides call. Made by the peer."""

    MADE_BY = "await peer.connect(endpoint) returns one, and peer.links has those there are"

    def __repr__(self) -> str:
        return f"<Link to {self.peer_name} over {self.endpoint}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to its peer and can be neither copied nor pickled")

    @overload
    def service(self, target: str | Service) -> ServiceProxy: ...

    @overload
    def service(self, target: ConcreteT, *, name: str | None = None) -> ConcreteT: ...

    @overload
    def service(self, target: Callable[..., T], *, name: str | None = None) -> T: ...

    def service(self, target: Any, *, name: str | None = None) -> Any:
        """Return a proxy whose calls all take this link. Arguments as in :meth:`Peer.service`."""
        peer = cast("Peer", self.peer)
        return _proxy(peer._callers.over_one_link(self.caller), target, name, Options(peer.default_codec))

    async def aclose(self) -> None:
        """Say goodbye and close the link; calls that run on it fail with ``PeerLost``. Idempotent.

        A peer that connected here connects again, unless it disconnects.
        """
        self.peer.check_thread()
        self.say_goodbye("closing")
        await trio.lowlevel.checkpoint()


@final
class Peer(BasePeer[Link, Service], metaclass=Made):
    """One process's end of everything: binds and connects, serves and calls. Made by :func:`open_peer`."""

    MADE_BY = "async with duplex.open_peer(...) as peer"

    def __init__(
        self,
        *,
        circuit_breaker: CircuitBreaker | None,
        outlier_detection: OutlierDetection | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._callers = Callers(self, circuit_breaker, outlier_detection)

    def __repr__(self) -> str:
        return f"<Peer {self.name or self.id} with {len(self.links)} links>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to its event loop and can be neither copied nor pickled")

    def add_service(self, service: Service) -> None:
        """Offer a service from now on; peers that are linked learn of it.

        Raises:
            ConfigurationError: a service of that name is offered already, or this is no service.
        """
        if not isinstance(service, Service):
            raise ConfigurationError(
                f"a service is made with duplex.Service(name) or from a module, not {type(service).__name__}; "
                f"an object with @duplex.rpc methods is offered with peer.expose(obj, name=...)"
            )
        self.serve(service)

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

    @overload
    def service(self, target: str | Service) -> ServiceProxy: ...

    @overload
    def service(self, target: ConcreteT, *, name: str | None = None) -> ConcreteT: ...

    @overload
    def service(self, target: Callable[..., T], *, name: str | None = None) -> T: ...

    def service(self, target: Any, *, name: str | None = None) -> Any:
        """Return a proxy for a remote service. Its calls go, in turn, to every linked peer that offers it.

        Args:
            target: the service's name, for a dynamic proxy; or a class whose annotations type the proxy and
                check the results: a ``Protocol``, or the service's own class, with methods under ``@duplex.rpc``.
            name: the service's name, if the class's does not say it.

        To a type checker, the proxy of a ``Protocol`` is an object of it. The proxy of a service's own class is
        that class, not an object of it, because an object's methods are called here and not over a link: of
        the class, each decorated method is a :class:`Unary` or a :class:`Streaming`.
        """
        return _proxy(self._callers.over_any_link, target, name, Options(self.default_codec))

    async def aclose(self) -> None:
        """Say goodbye on every link and close every port. Calls that run fail. Idempotent."""
        self.check_thread()
        self.close()
        await trio.lowlevel.checkpoint()


def _check_options(
    services: object,
    limits: object,
    keepalive: object,
    reconnect: object,
    connect_timeout: object,
    max_threads: object,
) -> None:
    """Raise ``ConfigurationError`` that names the first argument of ``open_peer`` that is wrong."""
    if isinstance(services, Service) or not isinstance(services, Iterable):
        raise ConfigurationError(f"services must be a list of duplex.Service, not {services!r}")
    if not isinstance(limits, Limits | None):
        raise ConfigurationError(f"limits must be a duplex.Limits, not {limits!r}")
    if not isinstance(keepalive, Keepalive | None):
        raise ConfigurationError(f"keepalive must be a duplex.Keepalive, not {keepalive!r}")
    if not isinstance(reconnect, Reconnect | None):
        raise ConfigurationError(f"reconnect must be a duplex.Reconnect, not {reconnect!r}")
    check_seconds("connect_timeout", connect_timeout, forever=True)
    check_whole("max_threads", max_threads, low=1)


@contextlib.asynccontextmanager
async def open_peer(
    *,
    services: Iterable[Service] = (),
    name: str = "",
    limits: Limits | None = None,
    keepalive: Keepalive | None = None,
    reconnect: Reconnect | None = None,
    connect_timeout: float = 10.0,
    max_threads: int = 40,
    reflection: bool = True,
    debug: bool | None = None,
    idempotency: Idempotency | None = None,
    circuit_breaker: CircuitBreaker | None = None,
    outlier_detection: OutlierDetection | None = None,
    middleware: Iterable[ServingMiddleware] = (),
    observer: Callable[[UnservedCall], object] | None = None,
) -> AsyncIterator[Peer]:
    """Open a peer: ``async with duplex.open_peer(services=[calc]) as peer``.

    Leaving the block closes all links and cancels all handlers.

    Args:
        services: what to offer from the beginning.
        name: for humans, in errors and listings of other peers; need not be unique.
        limits: what this peer takes from others.
        keepalive: how links are watched, and how long they are kept.
        reconnect: the pauses between attempts to connect.
        connect_timeout: seconds that :meth:`Peer.connect`, and calls without a link, wait for one; ``math.inf``:
            for ever.
        max_threads: handlers that are plain functions run in at most so many threads; while they wait for calls
            that they made, and nothing moves, in up to as many more, or 16.
        reflection: whether callers can list and describe what is offered.
        debug: whether tracebacks of unexpected exceptions travel to callers; ``None`` for what the
            environment variable ``DUPLEX_DEBUG`` says (off unless it is ``1``).
        idempotency: for how long, and in how much room, calls with an idempotency key are remembered.
        circuit_breaker: when a peer whose calls fail gets none for a while; ``None``: never.
        outlier_detection: when a peer whose calls fail more often than those of others gets none for a while; ``None``: never.
        middleware: what runs around everything that this peer serves, its own two services and callbacks included, the
            outermost first. See :class:`ServingMiddleware`.
        observer: is called with each call that this peer answers though neither its handler nor any middleware has begun:
            an unknown method, bad arguments, a limit, a repetition. Called on the event loop, so it must return at once.

    Raises:
        ConfigurationError: an argument is wrong.
        RuntimeError: there is no trio here; the message says what to do.
    """
    check_run()
    _check_options(services, limits, keepalive, reconnect, connect_timeout, max_threads)
    if not isinstance(idempotency, Idempotency | None):
        raise ConfigurationError(f"idempotency must be a duplex.Idempotency, not {idempotency!r}")
    if not isinstance(circuit_breaker, CircuitBreaker | None):
        raise ConfigurationError(f"circuit_breaker must be a duplex.CircuitBreaker, not {circuit_breaker!r}")
    if not isinstance(outlier_detection, OutlierDetection | None):
        raise ConfigurationError(
            f"outlier_detection must be a duplex.OutlierDetection, not {outlier_detection!r}"
        )
    if observer is not None and not callable(observer):
        raise ConfigurationError(f"observer must be a function, not {observer!r}")
    layers = checked_middleware(middleware, "open_peer()")
    flusher = acquire_flusher()
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            peer = Peer._make(
                link_class=Link._make,
                nursery=nursery,
                flusher=flusher,
                callback_handler=lambda function: callback_spec(function, CALLBACK).behind(layers),
                peer_id=secrets.token_hex(16),
                name=name,
                limits=limits or Limits(),
                keepalive=keepalive or Keepalive(),
                reconnect=reconnect or Reconnect(),
                connect_timeout=connect_timeout,
                max_threads=max_threads,
                debug=os.environ.get("DUPLEX_DEBUG") == "1" if debug is None else debug,
                idempotency=idempotency or Idempotency(),
                circuit_breaker=circuit_breaker,
                outlier_detection=outlier_detection,
                observer=None if observer is None else Observer(observer),
                middleware=layers,
            )
            for service in services:
                peer.add_service(service)
            if reflection:
                peer.serve(reflection_service(peer))
            peer.serve(health_service(peer))
            nursery.start_soon(watch_links, peer)
            try:
                yield peer
            except BaseException as error:
                # Raised again below: a nursery would wrap the user's exception in a group.
                body_error = error
            finally:
                peer.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        serious = group.split(trio.Cancelled)[1]
        if serious is not None and body_error is None and len(serious.exceptions) == 1:
            body_error = serious.exceptions[0]
        elif serious is not None or body_error is None:
            raise
    finally:
        release_flusher(flusher)
    if body_error is not None:
        raise body_error
