"""Services that are connected by their names, as endpoints are by their addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import final

import trio

from duplex._errors import ConfigurationError, ConnectError
from duplex.client.following._service import FollowedService, Host
from duplex.engine.links import Session
from duplex.resolvers import Resolver


@final
class Named:
    """The services that one peer has connected by name.

    Args:
        host: the peer.
        links: returns its links that are open.
        follow: begins to follow a service where a resolver says that it is.
    """

    def __init__(
        self,
        host: Host,
        links: Callable[[], Collection[Session]],
        follow: Callable[[str, Resolver], FollowedService],
    ) -> None:
        self._host = host
        self._links = links
        self._follow = follow
        self._followed: dict[str, FollowedService] = {}

    def connect_soon(self, text: str, service: str, resolver: Resolver) -> FollowedService:
        """Begin to follow a service, if that is not done already."""
        followed = self._followed.get(text)
        if followed is None:
            followed = self._followed[text] = self._follow(service, resolver)
        return followed

    def disconnect(self, text: str) -> None:
        """Follow a service no longer.

        Raises:
            ConfigurationError: nobody does; the message lists what is followed.
        """
        followed = self._followed.pop(text, None)
        if followed is None:
            there = ", ".join(self._followed) or "nothing"
            raise ConfigurationError(f"{text!r} is not connected; of names, {there} is")
        followed.leave()

    async def connect(
        self, text: str, service: str, resolver: Resolver, seconds: float, services: Collection[str]
    ) -> Session:
        """Follow a service, and return the first link to one that offers it.

        Raises:
            ConnectError: there is none in time, and nothing follows it.
        """
        is_new = text not in self._followed
        followed = self.connect_soon(text, service, resolver)
        link: Session | None = None
        try:
            with trio.move_on_after(seconds):
                link = await self._first_link(followed, services)
            if link is None:
                why = followed.problem or self._why_not(followed)
                raise ConnectError(f"no link to {text} within {seconds:g} s: {why}")
        finally:
            if link is None and is_new and self._followed.get(text) is followed:
                self.disconnect(text)
        return link

    async def _first_link(self, followed: FollowedService, services: Collection[str]) -> Session:
        await trio.lowlevel.checkpoint()
        while True:
            if self._host.is_closed:
                raise trio.ClosedResourceError("this peer was closed while it connected")
            changed = self._host.table.changed.next
            addresses = {endpoint.address for endpoint in followed.endpoints}
            for link in self._links():
                is_there = link.endpoint in addresses or followed.service in link.offers
                if addresses and is_there and all(name in link.offers for name in services):
                    return link
            await changed.wait()

    def _why_not(self, followed: FollowedService) -> str:
        addresses = ", ".join(endpoint.address for endpoint in followed.endpoints)
        if not addresses:
            return "where it is, is not known"
        return f"it is at {addresses}, and there is no link that offers what was asked for"
