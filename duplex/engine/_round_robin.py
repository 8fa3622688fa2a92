"""Whose turn it is: which of several links a call takes."""

from __future__ import annotations

import bisect
import operator
from typing import Any, Final, Generic, TypeVar, final

from duplex.engine._link import BaseLink

LinkT = TypeVar("LinkT", bound=BaseLink)


@final
class _Remote(Generic[LinkT]):
    """A remote peer with the links to it."""

    __slots__ = ("id", "links", "number")

    def __init__(self, peer_id: str, number: int) -> None:
        self.id = peer_id
        #: The later it was linked, the higher.
        self.number = number
        self.links: list[LinkT] = []

    def pick(self, service: str) -> LinkT | None:
        """Return a link that takes calls of a service, the next one in turn; ``None`` if there is none."""
        links = self.links
        last_resort = None
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


_number: Final = operator.attrgetter("number")


@final
class RoundRobin(Generic[LinkT]):
    """Deals the calls of each service out to the remote peers that offer it, one after the other.

    Each service has a turn of its own, or one that is called in a rhythm with another would find the same peers
    again and again. A turn is remembered as the peer that had it, not as a place in a list, so nobody is left out or
    asked twice when others come and go. Two peers that connected to each other have two links, and one share.
    """

    def __init__(self) -> None:
        #: In the order of their numbers.
        self._remotes: list[_Remote[LinkT]] = []
        self._last_number = 0
        #: By service, the number of the peer that was picked last in this round.
        self._turns: dict[str, int] = {}

    def add(self, link: LinkT) -> None:
        """Deal to a link too, from now on."""
        remote = next((remote for remote in self._remotes if remote.id == link.peer_id), None)
        if remote is None:
            self._last_number += 1
            remote = _Remote(link.peer_id, self._last_number)
            self._remotes.append(remote)
        remote.links.append(link)

    def remove(self, link: LinkT) -> None:
        """Deal to a link no more."""
        remote = next(remote for remote in self._remotes if link in remote.links)
        remote.links.remove(link)
        if not remote.links:
            self._remotes.remove(remote)
            if not self._remotes:
                self._turns.clear()

    def pick(self, service: str) -> LinkT | None:
        """Return a link that takes calls of a service, of the next peer in turn; ``None`` if there is none."""
        remotes: Any = self._remotes
        count = len(remotes)
        first = bisect.bisect_right(remotes, self._turns.get(service, 0), key=_number)
        last_resort: LinkT | None = None
        for step in range(first, first + count):
            remote = remotes[step % count]
            link: LinkT | None = remote.pick(service)
            if link is None:
                continue
            if link.is_left:
                last_resort = link
                continue
            # After the last one a new round begins: who comes meanwhile, again and again even, waits for its end.
            self._turns[service] = 0 if remote is remotes[-1] else remote.number
            return link
        return last_resort
