"""Whose turn it is: which of several links a call takes."""

from __future__ import annotations

from typing import Generic, TypeVar, final

from duplex.engine._link import BaseLink

LinkT = TypeVar("LinkT", bound=BaseLink)


@final
class _Remote(Generic[LinkT]):
    """A remote peer with the links to it."""

    __slots__ = ("id", "links")

    def __init__(self, peer_id: str) -> None:
        self.id = peer_id
        self.links: list[LinkT] = []

    def pick(self, service: str) -> LinkT | None:
        """Return a link that takes calls of a service, the next one in turn; ``None`` if there is none."""
        links = self.links
        last_resort: LinkT | None = None
        for index, link in enumerate(links):
            if service in link.offers and link.connection.can_open:
                if link.is_left:
                    # This side is leaving, but what it finishes may have to call, and has no other way yet.
                    last_resort = link
                    continue
                if len(links) > 1:
                    links.append(links.pop(index))
                return link
        return last_resort


@final
class RoundRobin(Generic[LinkT]):
    """Deals the calls of each service out to the remote peers that offer it, one after the other.

    Each service has a turn of its own, or one that is called in a rhythm with another would find the same peers
    again and again. Nobody is left out, or asked twice, when others come and go. Two peers that connected to each
    other have two links, and one share.
    """

    def __init__(self) -> None:
        #: In the order in which they were linked.
        self._remotes: list[_Remote[LinkT]] = []
        #: By service, the place of the peer whose turn is next; the first one's where there is none.
        self._next: dict[str, int] = {}

    def add(self, link: LinkT) -> None:
        """Deal to a link too, from now on. A new peer is the last one of each round."""
        remote = next((remote for remote in self._remotes if remote.id == link.peer_id), None)
        if remote is None:
            remote = _Remote(link.peer_id)
            self._remotes.append(remote)
        remote.links.append(link)

    def remove(self, link: LinkT) -> None:
        """Deal to a link no more."""
        place, remote = next(
            (place, remote) for place, remote in enumerate(self._remotes) if link in remote.links
        )
        remote.links.remove(link)
        if remote.links:
            return
        del self._remotes[place]
        # Whose turn it was, it still is: those behind have moved up. Services that nobody offers any more have none.
        offered = {service for remote in self._remotes for link in remote.links for service in link.offers}
        moved = {service: turn - (turn > place) for service, turn in self._next.items() if service in offered}
        self._next = {service: turn for service, turn in moved.items() if turn < len(self._remotes)}

    def pick(self, service: str) -> LinkT | None:
        """Return a link that takes calls of a service, of the next peer in turn; ``None`` if there is none."""
        remotes = self._remotes
        count = len(remotes)
        place = self._next.get(service, 0)
        last_resort: LinkT | None = None
        for _ in range(count):
            link = remotes[place].pick(service)
            place += 1
            if place == count:
                # A new round: who comes meanwhile, again and again even, waits for its end.
                place = 0
            if link is None:
                continue
            if link.is_left:
                last_resort = link
                continue
            self._next[service] = place
            return link
        return last_resort
