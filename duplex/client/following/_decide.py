"""Which endpoints are believed in, and which links are made and left: decisions, of values and a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from typing import final

from duplex.resolvers import Endpoint


def usable(told: Iterable[Endpoint], service: str, zone: str) -> tuple[Endpoint, ...]:
    """Return the endpoints to connect, of those that a resolver has told: each address once.

    Args:
        told: what it has told.
        service: the service; endpoints of others are left out.
        zone: if any endpoint is in this zone, only those are taken; empty: all.
    """
    found = {endpoint.address: endpoint for endpoint in told if endpoint.service in ("", service)}
    here = [endpoint for endpoint in found.values() if zone and endpoint.zone == zone]
    return tuple(here or found.values())


@final
class Belief:
    """The endpoints of a service that are believed in.

    What is known stays when nothing can be learned, and when suddenly there are said to be none: more often than not that is a
    fault of the one that says so, and the servers are there.

    Args:
        patience: seconds for which there have to be none before that is believed.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._known: tuple[Endpoint, ...] = ()
        self._empty_since: float | None = None

    @property
    def due(self) -> float:
        """When there are no endpoints any more, unless others are told; ``inf`` if that is not in sight."""
        return math.inf if self._empty_since is None else self._empty_since + self._patience

    @property
    def is_doubted(self) -> bool:
        """Whether there are said to be no endpoints, and that is not believed."""
        return self._empty_since is not None

    def told(self, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """A resolver has told which endpoints there are."""
        if endpoints or not self._known:
            self._known = endpoints
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now

    def known(self, now: float) -> tuple[Endpoint, ...]:
        """Return the endpoints that are believed in."""
        if now >= self.due:
            self._known = ()
            self._empty_since = None
        return self._known


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done."""

    #: Addresses to connect.
    connect: tuple[str, ...] = ()
    #: Addresses whose links are to be left.
    leave: tuple[str, ...] = ()
    #: Those that lead to a peer to which there is another link, with the id of the peer: not to be connected as long as
    #: there is.
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


def plan(
    wanted: Collection[str],
    ours: Collection[str],
    connected: Mapping[str, str],
    aliases: Mapping[str, str],
) -> Plan:
    """Decide which endpoints are connected and left, so that there is one link to each peer, however often it is named.

    Args:
        wanted: the addresses of the services that are followed, the preferred ones first.
        ours: those that were connected for that; the program may have connected others, which are not left.
        connected: all that are connected now, or are being connected, with the id of the peer if there is a link.
        aliases: see :attr:`Plan.aliases`, from before.
    """
    leave = [address for address in ours if address in connected and address not in wanted]
    there = {address: peer for address, peer in connected.items() if peer and address not in leave}
    kept = {peer: address for address, peer in reversed(there.items()) if address not in ours}
    for address in wanted:
        if there.get(address):
            kept.setdefault(there[address], address)
    found = {
        address: there[address]
        for address in wanted
        if address in there and address in ours and kept[there[address]] != address
    }
    still = {
        address: peer
        for address, peer in aliases.items()
        if address in wanted and address not in connected and peer in kept
    }
    connect = [address for address in wanted if address not in connected and address not in still]
    return Plan(connect=tuple(connect), leave=(*leave, *found), aliases={**still, **found})
