"""The links that are made for services that are followed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Protocol, final

import trio

from duplex._errors import as_text
from duplex.client.following._decide import plan
from duplex.engine._signal import Signal
from duplex.resolvers import Endpoint

logger = logging.getLogger("duplex")

#: Seconds between one decision and the next: many links that come at once are one change.
_PAUSE: Final = 0.01


class Ports(Protocol):
    """What is connected."""

    def connected(self) -> Mapping[str, str]:
        """Return the endpoints that are connected, or are being connected, with the id of the peer if there is a link."""

    def leave(self, endpoint: str) -> None:
        """Leave the link to an endpoint in order, and connect there no more."""

    def connect_soon(self, endpoint: str, weight: float) -> None:
        """Begin to connect to an endpoint."""

    def weigh(self, endpoint: str, weight: float) -> None:
        """Say how many calls the peer at an endpoint is to get."""


class Table(Protocol):
    """Who is linked."""

    @property
    def changed(self) -> Signal:
        """Is notified when that has changed."""


class Host(Protocol):
    """The peer."""

    @property
    def is_closed(self) -> bool:
        """Whether it has no links and makes none."""

    @property
    def is_draining(self) -> bool:
        """Whether it makes no new ones."""

    @property
    def ports(self) -> Ports:
        """What is connected."""

    @property
    def table(self) -> Table:
        """Who is linked."""

    def spawn(
        self, function: Callable[..., Awaitable[object]], *args: object, name: str | None = None
    ) -> None:
        """Run something until it ends or the peer does."""


@final
class Connections:
    """The links that are made for all services that one peer follows: one to each peer, however often it is named, and none to
    one that no service needs any more.

    Args:
        host: the peer.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        #: The endpoints that each one wants who follows a service.
        self._wanted: dict[object, tuple[Endpoint, ...]] = {}
        #: The addresses that were connected here, with their weights.
        self._ours: dict[str, float] = {}
        #: Addresses of peers to which there is another link, with the peer's id.
        self._aliases: dict[str, str] = {}
        #: Addresses that cannot be connected, whatever is done, and why.
        self._wrong: dict[str, str] = {}
        self._is_running = False

    def want(self, who: object, endpoints: tuple[Endpoint, ...]) -> None:
        """Somebody who follows a service wants links to these endpoints from now on; to none, with no endpoints."""
        if endpoints:
            self._wanted[who] = endpoints
        else:
            self._wanted.pop(who, None)
        self._act()
        if not self._is_running and self._wanted:
            self._is_running = True
            self._host.spawn(self._run, name="duplex links of services that are followed")

    def why_none(self, endpoints: Collection[Endpoint]) -> str | None:
        """Return why none of some endpoints can ever be connected; ``None`` if one can."""
        if endpoints and all(endpoint.address in self._wrong for endpoint in endpoints):
            return self._wrong[next(iter(endpoints)).address]
        return None

    async def _run(self) -> None:
        """Look again whenever links have changed, as long as any are wanted."""
        while self._wanted and not self._host.is_closed:
            changed = self._host.table.changed.next
            self._act()
            await changed.wait()
            await trio.sleep(_PAUSE)
        self._is_running = False

    def _act(self) -> None:
        """Make and leave links, as is to be done now."""
        host = self._host
        if host.is_closed or host.is_draining:
            return
        weights = self._weights()
        self._wrong = {address: why for address, why in self._wrong.items() if address in weights}
        wanted = [address for address in weights if address not in self._wrong]
        ports = host.ports
        todo = plan(wanted, self._ours.keys(), ports.connected(), self._aliases)
        self._aliases = dict(todo.aliases)
        for address in todo.leave:
            ports.leave(address)
        for address in [one for one in self._ours if one not in weights or one in todo.leave]:
            del self._ours[address]
        for address in todo.connect:
            self._connect(address, weights[address])
        for address in self._ours:
            if self._ours[address] != weights[address]:
                self._ours[address] = weights[address]
                ports.weigh(address, weights[address])

    def _connect(self, address: str, weight: float) -> None:
        try:
            self._host.ports.connect_soon(address, weight)
        except Exception as error:  # a transport is the program's, perhaps, and raises what it likes
            logger.warning("a resolver names an endpoint that cannot be connected: %s", error)
            self._wrong[address] = as_text(error)
        else:
            self._ours[address] = weight

    def _weights(self) -> Mapping[str, float]:
        """Return the weights of all addresses that somebody wants."""
        every: Iterable[Endpoint] = (one for endpoints in self._wanted.values() for one in endpoints)
        return {endpoint.address: endpoint.weight for endpoint in every}
