"""The inside of a peer: what its rooms need of each other, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, final

import trio

from duplex._authentication import Authenticator, Credentials
from duplex._config import Idempotency, Keepalive, Limits, Reconnect
from duplex._numbers import check_seconds
from duplex.codec import CODECS, Codec
from duplex.engine._counting import Counting, MethodStatistics
from duplex.engine._handler import Handler
from duplex.engine._home import Home
from duplex.engine._public_link import PublicLink
from duplex.engine._runs import EventLoop
from duplex.engine._signal import Signal
from duplex.engine._statistics import PeerStatistics
from duplex.engine.calling import CallCounts, Caller, Situation, Timers
from duplex.engine.channels import Dropped
from duplex.engine.links import LinkRegistry, Session, SlowPeers
from duplex.engine.serving import (
    Admission,
    Authorization,
    Authorize,
    Callbacks,
    Observer,
    Reception,
    ResultCache,
    ServedChannel,
    ServiceT,
    ServiceTable,
    ServingMiddleware,
)
from duplex.engine.tasks import Flusher, Workers
from duplex.engine.threads import Threads
from duplex.protocol import ServiceInfo
from duplex.transports import TLS, Transports


# Large because it is where the rooms of the engine meet: each states in protocols what it needs of a peer, and what answers
# is an attribute here. It does little itself.
@final
class Engine(Generic[ServiceT]):
    """The inside of a peer, which the program sees as a :class:`duplex.Peer`.

    Args:
        publish: makes what the program sees of a link.
        caller_of_callbacks: gives what calls functions of the other side over a link.
        nursery: the parent of all the peer's tasks.
        flusher: the flusher of the present run.
        callback_handler: makes a handler of a function that was passed as a callback.
        observer: is told of calls that are answered without being run.
        authorize: decides which calls may be made; ``None``: those of methods that require nothing.
        middleware: what runs around every handler, the outermost first.
        counting: counts its calls; ``None``: they are not counted.

    Attributes:
        home: its event loop, its tasks, its thread.
        check_thread: see :meth:`Home.check_thread`; asked for each call, so without a method around it. Likewise ``spawn`` and
            ``spawn_here``.
        services: what it offers.
        registry: its links: ``table``, which there are; ``ports``, what they come by.
        left_behind: notifications that run, or are about to, and whose links are gone (an ordered set).
        is_draining: no new calls are taken.
        call_ended: is notified when a call has ended on a link that is being left, or such a link has.
        clock: the present time, as :func:`trio.current_time` tells it, in half the time that one takes.
    """

    def __init__(
        self,
        *,
        publish: Callable[[Session], PublicLink],
        caller_of_callbacks: Callable[[Caller], Caller],
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
        transports: Transports,
        authenticator: Authenticator | None = None,
        credentials: Credentials | None = None,
        tls: TLS | None = None,
        observer: Observer | None = None,
        authorize: Authorize | None = None,
        middleware: Sequence[ServingMiddleware] = (),
        counting: Counting | None = None,
    ) -> None:
        self.id = peer_id
        self.name = name
        self.limits = limits
        self.keepalive = keepalive
        self.reconnect = reconnect
        self.connect_timeout = connect_timeout
        self.debug = debug
        self.transports = transports
        self.authenticator = authenticator
        self.credentials = credentials
        self.tls = tls
        self.flusher = flusher
        self.observer = observer
        self.counting = counting
        self.publish = publish
        self.caller_of_callbacks = caller_of_callbacks
        self.make_callback_handler = callback_handler
        self.is_closed = False
        self.is_draining = False
        self.call_ended = Signal()
        self.codecs = CODECS
        self.default_codec: Codec = CODECS["msgpack"]
        self.clock: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.loop = EventLoop()
        self.home = home = Home(nursery, self._terminate)
        self.base_context = home.context
        self.check_thread = home.check_thread
        self.spawn = home.spawn
        self.spawn_here = home.spawn_here
        self.services: ServiceTable[ServiceT] = ServiceTable(
            peer_id,
            name,
            limits,
            middleware,
            Authorization(authorize, observer),
            self._announce,
            self._takes_calls,
            self.spawn,
        )
        self.workers: Workers = Workers(nursery, self.base_context, flusher, self.clock)
        self.threads = Threads(max_threads, self.spawn, flusher.interpreter)
        self.timers = Timers(self.spawn)
        self.call_counts = CallCounts()
        self.admission: Admission = Admission(self)
        self.callbacks = Callbacks(limits)
        self.results = ResultCache(idempotency)
        self.left_behind: dict[ServedChannel, None] = {}
        self.reception: Reception = Reception(self)
        self.dropped = Dropped()
        self.slow = SlowPeers()
        self.registry: LinkRegistry = LinkRegistry(self)
        self.table = self.registry.table
        self.ports = self.registry.ports

    def _announce(self, services: tuple[ServiceInfo, ...]) -> None:
        for link in self.table.links:
            if link.connection.is_open:
                link.connection.announce(services)
                link.touch()

    def _takes_calls(self) -> bool:
        return not (self.is_closed or self.is_draining)

    def _terminate(self) -> None:
        for link in self.table.links:
            link.connection.terminate()

    @property
    def is_behind(self) -> bool:
        """Whether more has come over links than is done in a turn."""
        return self.workers.is_behind

    @property
    def links(self) -> list[Session]:
        """The links that are open now."""
        return list(self.table.links)

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

    def method_statistics(self) -> list[MethodStatistics]:
        """See :meth:`duplex.Peer.method_statistics`."""
        self.check_thread()
        if self.counting is None:
            return []
        users = [user for link in self.links for user in link.channels.users.values()]
        return self.counting.statistics([*users, *self.left_behind])

    # -- what calls to services ask --------------------------------------------------------------------

    def wake(self) -> None:
        """Connect again what was left because it was idle."""
        self.ports.wake()

    def situation(self, service: str) -> Situation:
        """Return what is known of a service to which no link takes a call at once."""
        return self.registry.situation(service)

    def explain(self) -> str:
        """Say who is linked and offers what, and which endpoints are not linked, and why."""
        return self.registry.explain()
