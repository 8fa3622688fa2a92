"""Opening a peer: :func:`open_peer`."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable

import trio

from duplex._authentication import Authenticator, checked_credentials
from duplex._balancing import Balancing, check_balancing
from duplex._config import Advertise, Idempotency, Keepalive, Limits, Reconnect
from duplex._errors import ConfigurationError
from duplex._numbers import check_seconds, check_whole
from duplex._peer import Peer
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.builtin import health_service, reflection_service, stats_service
from duplex.client._middleware import CallingMiddleware
from duplex.engine._counting import Counting
from duplex.engine._runs import check_run
from duplex.engine.links import watch_links
from duplex.engine.serving import (
    CALLBACK,
    Authorize,
    Observer,
    ServingMiddleware,
    UnservedCall,
    checked_authorize,
    checked_middleware,
)
from duplex.engine.tasks import acquire_flusher, release_flusher
from duplex.service import Service, callback_spec
from duplex.transports import DEFAULT, TLS, Transport, Transports


def _check_options(
    services: object,
    limits: object,
    keepalive: object,
    reconnect: object,
    connect_timeout: object,
    max_threads: object,
    **flags: object,
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
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(f"{name} must be True or False, not {flag!r}")


def _servers(discovery: object) -> tuple[str, ...]:
    """Return where the directory is, as somebody has given it."""
    given: object = () if discovery is None else (discovery,) if isinstance(discovery, str) else discovery
    servers = tuple(given) if isinstance(given, Iterable) else (None,)
    if not all(isinstance(server, str) and server for server in servers):
        raise ConfigurationError(
            f"discovery must be the endpoint of a server of discovery, such as 'tcp://10.0.0.2:7710', or several, or the URL of "
            f"a store; not {discovery!r}"
        )
    return servers


def _advertise(advertise: object) -> Advertise:
    if advertise is None:
        return Advertise()
    return advertise if isinstance(advertise, Advertise) else Advertise(addresses=advertise)  # type: ignore[arg-type]


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
    balancer: Balancing = "least_loaded",
    circuit_breaker: CircuitBreaker | None = None,
    outlier_detection: OutlierDetection | None = None,
    middleware: Iterable[ServingMiddleware] = (),
    call_middleware: Iterable[CallingMiddleware] = (),
    observer: Callable[[UnservedCall], object] | None = None,
    authorize: Authorize | None = None,
    stats: bool = True,
    transports: Iterable[Transport] | None = None,
    discovery: str | Iterable[str] | None = None,
    advertise: str | Iterable[str] | Advertise | None = None,
    authenticator: Authenticator | None = None,
    credentials: bytes | Callable[[str], bytes | None] | None = None,
    tls: TLS | None = None,
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
            without end.
        max_threads: handlers that are plain functions run in at most so many threads; while they wait for calls
            that they made, and nothing moves, in up to as many more, or 16.
        reflection: whether callers can list and describe what is offered.
        debug: whether tracebacks of unexpected exceptions travel to callers; ``None`` for what the
            environment variable ``DUPLEX_DEBUG`` says (off unless it is ``1``).
        idempotency: for how long, and in how much room, calls with an idempotency key are remembered.
        balancer: which of the peers that offer a service gets a call, unless the call asks for another way
            (``with_options(balancer=...)``). ``"least_loaded"``: of two, chosen by chance, the one with the lower product of
            calls under way and latency. ``"round_robin"``: each in its turn. ``"pick_first"``: the one that has been linked for
            longest. :class:`ConsistentHash`: the one that a key belongs to.
        circuit_breaker: when a peer whose calls fail gets none for a while; ``None``: never.
        outlier_detection: when a peer whose calls fail more often than those of others gets none for a while; ``None``: never.
        middleware: what runs around everything that this peer serves, its own services and callbacks included, the
            outermost first. See :class:`ServingMiddleware`.
        call_middleware: what runs around the calls that this peer makes, of callbacks too, the outermost first. See
            :class:`CallingMiddleware`.
        observer: is called with each call that this peer answers though neither its handler nor any middleware has begun:
            an unknown method, bad arguments, a limit, a repetition. Called on the event loop, so it must return at once.
        authorize: decides which calls of this peer's methods may be made, of every kind. It is called as
            ``authorize(identity, method, call)``: who calls, an :class:`Identity`; ``service.method``; and an :class:`AskedCall`. It
            returns ``True`` or ``False``, or raises an ``RPCError`` that says why not; a plain function at once, an ``async def`` in
            its time. ``None``: methods that require nothing (``@rpc(requires=...)``) may be called by everybody, others by nobody.
        stats: whether calls are counted, for :meth:`Peer.method_statistics`, and everyone who asks the service
            ``duplex.stats``. It takes 2 % of what Python does for a unary call.

        transports: what moves its messages, each for the endpoints of its schemes; ``None``: those of the package
            (:func:`duplex.transports.default_transports`). Endpoints of other schemes are refused.
        discovery: servers of discovery, such as ``"tcp://10.0.0.2:7710"``, or ``"local"`` for this host's, which all have the same
            directory; or the URL of the store in which it is, such as ``"etcd://10.0.0.2"``. There, the services are registered wherever the peer is bound, with their
            health, until it drains or is closed, and ``discovery://...`` is looked up. ``None``: nothing is registered, and it is looked
            up at those that ``DUPLEX_DISCOVERY`` names, or at the Unix socket of this host's server.
        advertise: where others reach the peer, if they do not where it is bound: an address, a network or an interface, or
            several; or an :class:`Advertise`, which says more.
        authenticator: says who the other side of each link is, or that there is to be none. ``None``: everybody may have a
            link, and is who the connection says, which over ``tcp://``, ``ipc://``, ``inproc://`` and ``memory://`` is nobody in
            particular.
        credentials: what this peer shows to the other side of each link, for its authenticator: at most 8192 bytes. Or a function
            that is called for each link with this side's endpoint, such as ``tcp://10.0.0.1:7700``, and returns them, or
            ``None``; on the event loop, so it must return at once. Everyone connected gets them, servers of discovery too, before it
            is known who that is, and, except over ``tls://``, who listens in between reads them.
        tls: the certificates of ``tls://`` endpoints, and which ones are trusted. ``None``: those that connect trust what this system
            trusts, and none can be bound.

    Raises:
        ConfigurationError: an argument is wrong.
        RuntimeError: there is no trio here; the message says what to do.
    """
    check_run()
    _check_options(
        services,
        limits,
        keepalive,
        reconnect,
        connect_timeout,
        max_threads,
        reflection=reflection,
        debug=bool(debug) if debug is None else debug,
        stats=stats,
    )
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
    call_layers = checked_middleware(call_middleware, "open_peer()")
    servers, told = _servers(discovery), _advertise(advertise)
    moving = DEFAULT if transports is None else Transports(transports)
    if authenticator is not None and not callable(authenticator):
        raise ConfigurationError(f"authenticator must be an async function, not {authenticator!r}")
    shown = checked_credentials(credentials)
    if not isinstance(tls, TLS | None):
        raise ConfigurationError(f"tls must be a duplex.TLS, not {tls!r}")
    flusher = acquire_flusher()
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            peer = Peer._make(
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
                balancer=check_balancing(balancer),
                circuit_breaker=circuit_breaker,
                outlier_detection=outlier_detection,
                observer=None if observer is None else Observer(observer),
                authorize=checked_authorize(authorize),
                middleware=layers,
                call_middleware=call_layers,
                counting=Counting() if stats else None,
                transports=moving,
                discovery=servers,
                advertise=told,
                authenticator=authenticator,
                credentials=shown,
                tls=tls,
            )
            engine = peer._inside
            for service in services:
                peer.add_service(service)
            if reflection:
                engine.services.add(reflection_service(engine.services))
            engine.services.add(health_service(engine.services))
            if stats:
                engine.services.add(stats_service(engine))
            nursery.start_soon(watch_links, engine)
            try:
                yield peer
            except BaseException as error:
                # Raised again below: a nursery would wrap the user's exception in a group.
                body_error = error
            finally:
                with trio.CancelScope(shield=True):
                    await peer._registering.withdraw()
                engine.close()
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
