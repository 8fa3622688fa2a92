"""One service that is followed."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast, final

import trio

from duplex._backoff import pause_after
from duplex._config import Reconnect
from duplex._errors import ConfigurationError, as_text
from duplex._made import Made
from duplex.client.following._connections import Connections
from duplex.client.following._connections import Host as ConnectionsHost
from duplex.client.following._connections import Table as LinkedTable
from duplex.client.following._decide import Belief, usable
from duplex.engine._failure import must_go_on
from duplex.resolvers import Endpoint, Known, Resolver

logger = logging.getLogger("duplex")

#: The pauses before a resolver that has failed is asked again.
_PAUSES: Final = Reconnect(initial=0.5, maximum=30.0)


class Table(LinkedTable, Protocol):
    """Who is linked, and which services are looked for."""

    def resolving(self, service: str) -> AbstractContextManager[None]:
        """Let calls to a service wait while the block runs."""

    def following(self, service: str, follower: FollowedService) -> AbstractContextManager[None]:
        """Note that a service is followed while the block runs."""

    def tell(self) -> None:
        """Have those who wait for a link look again."""


class Host(ConnectionsHost, Protocol):
    """The peer."""

    @property
    def table(self) -> Table:
        """Who is linked, and which services are looked for."""


@final
class FollowedService(metaclass=Made):
    """A service whose endpoints are followed. Made by :meth:`duplex.Peer.connect_service`."""

    _MADE_BY = "peer.connect_service(service, where) returns one"

    def __init__(
        self,
        host: Host,
        connections: Connections,
        service: str,
        resolver: Resolver,
        zone: str,
        patience: float,
    ) -> None:
        self._host = host
        self._connections = connections
        self._service = service
        self._resolver = resolver
        self._zone = zone
        self._belief = Belief(patience)
        self._problem: str | None = None
        #: When what is known was last known to be so, by the clock of the wall; infinite if it is so, ``None`` if nothing is.
        self._as_of: float | None = None
        self._scope = trio.CancelScope()
        #: What ends when it is known where the service is, and what ends when nobody follows it any more.
        self._unresolved = contextlib.ExitStack()
        self._unresolved.enter_context(host.table.resolving(service))
        self._followed = contextlib.ExitStack()
        self._followed.enter_context(host.table.following(service, self))
        host.spawn(self._run, name=f"duplex resolver of {service}")

    def __repr__(self) -> str:
        return f"<service {self._service} at {len(self.endpoints)} endpoints by {self._resolver!r}>"

    @property
    def service(self) -> str:
        """The name of the service."""
        return self._service

    @property
    def endpoints(self) -> Collection[Endpoint]:
        """The endpoints that are connected now, or are being connected."""
        return self._belief.known(trio.current_time())

    @property
    def problem(self) -> str | None:
        """Why the resolver cannot say where the service is now, or names nothing that can be connected; ``None`` if it can."""
        return self._problem or self._connections.why_none(self.endpoints)

    @property
    def age(self) -> float | None:
        """Seconds since what is known was last known to be so; 0 as long as its resolver says nothing else, ``None`` if nothing was
        ever known."""
        return None if self._as_of is None else max(0.0, time.time() - self._as_of)

    def leave(self) -> None:
        """Follow the service no longer, and leave the links that were made for it alone, as :meth:`duplex.Link.leave` does.
        Idempotent."""
        self._scope.cancel()
        self._connections.want(self, ())
        self._unresolved.close()
        self._followed.close()

    async def _run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                failures = 0
                while True:
                    try:
                        async with closing(self._resolver.resolve(self._service)) as sets:
                            async for told in sets:
                                failures = 0
                                self._take(told, nursery)
                        return  # and what was told last stays
                    except BaseException as error:
                        if must_go_on(error):
                            raise
                        failures += 1
                        if self._as_of == math.inf:
                            self._as_of = time.time()
                        self._note(f"{type(error).__name__}: {as_text(error)}")
                    await trio.sleep(pause_after(failures, _PAUSES, random.random()))

    def _take(self, told: Iterable[str | Endpoint], nursery: trio.Nursery) -> None:
        """Make of what was told what is to be done."""
        known = as_known(told)
        endpoints = known.endpoints
        if endpoints or known.problem is None:
            self._as_of = math.inf if known.as_of is None else known.as_of
        now = trio.current_time()
        self._belief.told(usable(endpoints, self._service, self._zone), now)
        if self._belief.is_doubted and self._belief.due > now:
            self._note(known.problem or "it names no endpoints, which is not believed yet")
            if self._belief.due < math.inf:
                nursery.start_soon(self._look_at, self._belief.due)
        else:
            self._note(known.problem)
        self._refresh()

    async def _look_at(self, due: float) -> None:
        await trio.sleep_until(due)
        if self._belief.is_doubted and self._belief.due <= due:
            self._problem = None
            logger.warning("the service %s has no endpoints any more, says %r", self._service, self._resolver)
        self._refresh()

    def _refresh(self) -> None:
        self._connections.want(self, self._belief.known(trio.current_time()))
        self._unresolved.close()
        self._host.table.tell()

    def _note(self, problem: str | None) -> None:
        """Note what is wrong, and tell it if that is news."""
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                logger.info("where the service %s is, is known again", self._service)
            else:
                logger.warning(
                    "where the service %s is, %r cannot say: %s", self._service, self._resolver, problem
                )


def as_known(told: Iterable[str | Endpoint]) -> Known:
    """Return what a resolver has told, without those that are none; the first of these is its problem.

    Raises:
        ConfigurationError: all of them are, or it is no set of endpoints.
    """
    if isinstance(told, Known):
        return told
    if isinstance(told, str) or not isinstance(told, Iterable):
        raise ConfigurationError(
            f"a resolver yields lists of endpoints, one list after the other, not {told!r}"
        )
    endpoints: list[Endpoint] = []
    wrong: list[str] = []
    for one in told:
        try:
            endpoints.append(one if isinstance(one, Endpoint) else Endpoint(one))
        except ConfigurationError as error:
            wrong.append(str(error))
    if wrong and not endpoints:
        raise ConfigurationError(wrong[0])
    return Known(tuple(endpoints), problem=wrong[0] if wrong else None)


@contextlib.asynccontextmanager
async def closing(
    sets: AsyncIterator[Iterable[str | Endpoint]],
) -> AsyncIterator[AsyncIterator[Iterable[str | Endpoint]]]:
    """Close what was asked, if it is an async generator, in the task that has asked."""
    try:
        yield sets
    finally:
        close = getattr(cast("Any", sets), "aclose", None)
        if close is not None:
            await close()
