"""The links of a peer, by the remote peers at their ends and by what these offer."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Protocol, final

import trio

from duplex.engine._peer_info import PeerInfo
from duplex.engine._signal import Signal
from duplex.engine.calling import Caller
from duplex.engine.links._session import Session
from duplex.engine.serving import BUILTIN

#: Links and services that a text about them lists, at most.
_MOST_LISTED: Final = 8


class Follower(Protocol):
    """What is told where a service is."""

    @property
    def endpoints(self) -> Collection[object]:
        """Where it is."""

    @property
    def problem(self) -> str | None:
        """Why that cannot be said now."""


@final
class Remote:
    """A remote peer, with the links to it. Two peers that connected to each other have two."""

    __slots__ = ("_links", "delay", "id", "number")

    def __init__(self, peer_id: str, number: int) -> None:
        self.id = peer_id
        #: Greater than that of all that were linked before.
        self.number = number
        self._links: list[Session] = []
        #: Seconds by which its event loop ran a timer late, as it said last, or for which it has not answered: how busy it
        #: is.
        self.delay = 0.0

    @property
    def name(self) -> str:
        """What it calls itself, or its id if it has no name."""
        return self._links[0].peer_name if self._links else self.id

    @property
    def place(self) -> str:
        """Where it is: the endpoint that was connected, or its name. The same when it is linked again."""
        return min((link.endpoint for link in self._links if link.connecting), default=self.name)

    @property
    def info(self) -> PeerInfo:
        """Who it is."""
        return self._links[0].remote

    @property
    def weight(self) -> float:
        """How many calls it is to get, as a multiple of what others get."""
        return max((link.weight for link in self._links), default=1.0)

    def add(self, link: Session) -> None:
        """Take note of a link to the peer."""
        self._links.append(link)

    def remove(self, link: Session) -> bool:
        """Forget a link that is over; tell whether there is no other."""
        self._links.remove(link)
        return not self._links

    def caller_for(self, service: str) -> Caller | None:
        """Return what makes calls over the next link in turn that offers a service and takes a call now; ``None`` if
        there is none."""
        links = self._links
        if len(links) == 1:
            (link,) = links
            return link.caller if link.connection.can_open and service in link.offers else None
        last_resort: Session | None = None
        for place, link in enumerate(links):
            if service in link.offers and link.connection.can_open:
                if link.is_left:
                    last_resort = link
                    continue
                links.append(links.pop(place))
                return link.caller
        return None if last_resort is None else last_resort.caller

    def any_caller(self, service: str) -> Caller | None:
        """Return what :meth:`caller_for` does, or else what makes calls over a link that offers a service and takes none now, to be
        told why; ``None`` if there is no such link."""
        offering = (link.caller for link in self._links if service in link.offers)
        return self.caller_for(service) or next(offering, None)

    def takes(self, service: str) -> bool:
        """Whether :meth:`caller_for` returns anything."""
        return any(service in link.offers and link.connection.can_open for link in self._links)


@final
class LinkTable:
    """The links of one peer that are open, who offers what, and who waits for a link."""

    def __init__(self) -> None:
        #: In the order in which they were made (an ordered set).
        self.links: dict[Session, None] = {}
        #: The same by what is offered over them, as far as somebody has asked for it since it changed: a call must not cost
        #: more where there are many other links, and an announcement not more than it says.
        self._by_service: dict[str, tuple[Session, ...]] = {}
        self._waiting: dict[object, tuple[str, float]] = {}
        #: Is notified when links or what they offer have changed.
        self.changed = Signal()
        self._remotes: dict[str, Remote] = {}
        self._numbers = itertools.count()
        #: What :meth:`offering` has found since the last change that concerns the service.
        self._offering: dict[str, tuple[Remote, ...]] = {}
        #: How many are finding out where a service is.
        self._resolving: Counter[str] = Counter()
        #: Those that follow where a service is, with its name.
        self._followers: dict[Follower, str] = {}

    def add(self, link: Session) -> None:
        """Take note of a link whose handshake is done."""
        self.links[link] = None
        remote = self._remotes.get(link.peer_id)
        if remote is None:
            remote = self._remotes[link.peer_id] = Remote(link.peer_id, next(self._numbers))
        remote.add(link)
        self._forget(link.offers)
        self.tell()

    def remove(self, link: Session) -> None:
        """Forget a link that is over."""
        del self.links[link]
        if not link.is_parted:
            self._remove_from_remote(link)
        self._forget(link.offers)
        self.tell()

    def part(self, link: Session) -> None:
        """A link gets no more calls."""
        if link in self.links:
            self._remove_from_remote(link)
            self._forget(link.offers)
            self.tell()

    def _remove_from_remote(self, link: Session) -> None:
        if self._remotes[link.peer_id].remove(link):
            del self._remotes[link.peer_id]

    def offers_changed(self, link: Session, before: Collection[str]) -> None:
        """A link offers something else.

        Args:
            link: the link.
            before: the services that it offered.
        """
        if link in self.links:
            self._forget(before)
            self._forget(link.offers)
            self.tell()

    def _forget(self, services: Collection[str]) -> None:
        """Forget who offers some services."""
        for service in services:
            self._by_service.pop(service, None)
            self._offering.pop(service, None)

    def _offered_by(self, service: str) -> tuple[Session, ...]:
        """Return the links over which a service is offered, in the order in which they were made."""
        found = self._by_service.get(service)
        if found is None:
            found = tuple(link for link in self.links if service in link.offers and not link.is_parted)
            if found:  # what nobody offers may be anything
                self._by_service[service] = found
        return found

    def note_change(self, link: Session) -> None:
        """A link takes other calls than before."""
        for service in link.offers:
            self._offering.pop(service, None)
        self.tell()

    def note_delay(self, link: Session, delay: float) -> None:
        """A remote peer has said how busy it is, or has not answered for so many seconds."""
        remote = self._remotes.get(link.peer_id)
        if remote is not None:
            remote.delay = delay

    def tell(self) -> None:
        """Have those who wait for a link look again: links, or what may come of connections, are other than before."""
        self.changed.notify()

    def offering(self, service: str) -> tuple[Remote, ...]:
        """Return the remote peers that offer a service, in the order in which they were linked.

        The same tuple until something changes. Peers to which all links are full are among them; those whose links this
        side leaves only if there are no others.
        """
        found = self._offering.get(service)
        if found is None:
            links = [
                link
                for link in self._offered_by(service)
                if link.connection.is_open and not link.connection.remote_leaving
            ]
            # What this side finishes while it leaves may have to call, and have no other way.
            links = [link for link in links if not link.is_left] or links
            remotes = {self._remotes[link.peer_id] for link in links}
            found = tuple(sorted(remotes, key=lambda remote: remote.number))
            if found:
                self._offering[service] = found
        return found

    @property
    def is_linked(self) -> bool:
        """Whether there are links that this side does not leave for good."""
        return bool(self._remotes)

    def full_caller(self, service: str) -> Caller | None:
        """Return what makes calls over a link that offers a service and is not about to end; which takes none now, if none
        does at all. ``None`` if there is no such link."""
        for link in self._offered_by(service):
            if link.connection.is_open and not link.connection.remote_leaving:
                return link.caller
        return None

    def is_replaced(self, service: str) -> bool:
        """Whether this side is to connect anew to somebody who offers a service, because the other side has left."""
        return any(link.connecting and link.connection.remote_leaving for link in self._offered_by(service))

    # -- services that nobody offers yet ---------------------------------------------------------------

    @contextlib.contextmanager
    def resolving(self, service: str) -> Iterator[None]:
        """While the block runs, somebody is finding out where a service is, and calls to it wait."""
        self._resolving[service] += 1
        try:
            yield
        finally:
            self._resolving[service] -= 1
            if not self._resolving[service]:
                del self._resolving[service]
            self.tell()

    @contextlib.contextmanager
    def following(self, service: str, follower: Follower) -> Iterator[None]:
        """While the block runs, somebody is told wherever a service is, and calls to it wait."""
        self._followers[follower] = service
        try:
            yield
        finally:
            del self._followers[follower]
            self.tell()

    def is_followed(self, service: str) -> bool:
        """Whether somebody is told wherever a service is."""
        return service in self._followers.values()

    def is_resolving(self, service: str) -> bool:
        """Whether somebody is finding out where a service is."""
        return service in self._resolving

    @contextlib.contextmanager
    def wait_for(self, service: str) -> Iterator[None]:
        """While the block runs, a call waits for a link that offers a service."""
        key = object()
        self._waiting[key] = service, trio.current_time()
        try:
            yield
        finally:
            del self._waiting[key]

    @property
    def waiting(self) -> Collection[tuple[str, float]]:
        """Calls that wait for a link: the service, and since when."""
        return self._waiting.values()

    def who_offers_what(self) -> list[str]:
        """Say of each link, or of the first ones, what it offers; and of services that are followed, why they are not found."""
        said = [
            f"{link.peer_name} {_state(link)} {_some(link.offers)}"
            for link in itertools.islice(self.links, _MOST_LISTED)
        ]
        if len(self.links) > _MOST_LISTED:
            said.append(f"{len(self.links) - _MOST_LISTED} more are linked")
        for follower, service in itertools.islice(self._followers.items(), _MOST_LISTED):
            problem = follower.problem or ("" if follower.endpoints else "it names no endpoints")
            if problem:
                said.append(f"where {service} is, its resolver cannot say: {problem}")
        return said


def _state(link: Session) -> str:
    if link.connection.remote_leaving:
        return "is leaving"
    return "is left by this side, and offers" if link.is_parted else "offers"


def _some(offers: Iterable[str]) -> str:
    """List names of services, but for those that every peer has."""
    names = [name for name in offers if not name.startswith(BUILTIN)]
    if len(names) > _MOST_LISTED:
        return f"{', '.join(names[:_MOST_LISTED])} and {len(names) - _MOST_LISTED} others"
    return ", ".join(names) or "nothing"
