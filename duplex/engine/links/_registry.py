"""Which links a peer has, and what changes with each that opens, is left, or ends."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from duplex.engine._log import logger
from duplex.engine._shares import GREED, may_hold_more
from duplex.engine.calling import Situation
from duplex.engine.links._handshake import Deciding
from duplex.engine.links._ports import Ports, PortsOwner
from duplex.engine.links._session import Session
from duplex.engine.links._table import LinkTable


@final
class LinkRegistry:
    """The links of one peer: implements :class:`~duplex.engine.links._session.LinkEvents`.

    Args:
        owner: the peer.

    Attributes:
        table: which links there are.
        ports: what they come by.
        deciding: those to be for which the authenticator is being asked.
    """

    def __init__(self, owner: PortsOwner) -> None:
        self._owner = owner
        self.table = LinkTable()
        self.ports = Ports(owner, self.table)
        self.deciding = Deciding(owner.limits.max_links)

    def judge(self, address: str) -> tuple[str, str] | None:
        """Return why a peer at an address, as its carrier tells it, is refused, or ``None``."""
        if self._owner.is_draining:
            return "draining", "this peer is draining and takes no new links"
        links = self.table.links
        most = self._owner.limits.max_links
        if len(links) >= most:
            return "limit", f"this peer has {len(links)} links, the limit (Limits.max_links)"
        if GREED * (most - len(links)) < most:
            there = sum(link.carrier.address == address for link in links)
            if not may_hold_more(there, len(links), most):
                return "limit", (
                    f"this peer has {len(links)} links, {there} of them with {address}: the rest is for others "
                    f"(Limits.max_links: {most})"
                )
        return None

    def opened(self, link: Session) -> None:
        """A handshake is done."""
        if self._owner.is_draining:
            # What finishes here may call over it; nobody is to call this peer.
            link.leave("draining", "the peer is draining")
        self.table.add(link)
        self.ports.link_opened(link)

    def left(self, link: Session, *, idle: bool) -> None:
        """No new calls go over a link, because one of its sides has said so."""
        self.ports.retire(link, idle=idle)
        self.table.note_change(link)

    def parted(self, link: Session) -> None:
        """This side leaves a link, and none is to take its place."""
        self.table.part(link)
        self.ports.part(link)

    def lost(self, link: Session, reason: str) -> None:
        """A link is over."""
        self.ports.link_over(link)
        if link in self.table.links:
            self.table.remove(link)
            if not self._owner.is_closed:
                logger.info("the link to %s over %s ended: %s", link.label, link.endpoint, reason)
        self._owner.call_ended.notify()
        self.table.tell()

    def note_delay(self, link: Session, delay: float) -> None:
        """A linked peer has said how late its event loop runs, or has not answered for so many seconds."""
        self.table.note_delay(link, delay)

    def weight_of(self, link: Session) -> float:
        """Return how many calls the peer of a link is to get, as a multiple of what others get."""
        return self.ports.weight_of(link)

    def offers_changed(self, link: Session, before: Collection[str]) -> None:
        """A linked peer offers other services than before."""
        self.table.offers_changed(link, before)
        self.ports.link_opened(link)

    # -- what becomes of calls -------------------------------------------------------------------------

    def situation(self, service: str) -> Situation:
        """Return what is known of a service to which no link takes a call at once."""
        table = self.table
        ports = self.ports
        return Situation(
            is_closed=self._owner.is_closed,
            is_draining=self._owner.is_draining,
            is_full=table.full_caller(service) is not None,
            is_resolving=table.is_resolving(service),
            is_followed=table.is_followed(service),
            is_connecting=ports.is_connecting or table.is_replaced(service),
            is_hopeful=ports.is_hopeful,
            is_unauthenticated=ports.is_unauthenticated,
            is_bound=ports.is_bound,
            is_linked=table.is_linked,
        )

    def explain(self) -> str:
        """Say who is linked and offers what, and which endpoints are not linked, and why."""
        return "; ".join(self.table.who_offers_what() + self.ports.situation()) or "nobody is linked"
