"""A link as the program sees it, for what gives it out and is told of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from duplex.engine._peer_info import PeerInfo
from duplex.engine._statistics import LinkStatistics


class PublicLink(Protocol):
    """The link of a call, as a handler or a caller sees it: a :class:`duplex.Link`."""

    @property
    def peer(self) -> Any:
        """The peer at this side, which the link belongs to."""

    @property
    def remote(self) -> PeerInfo:
        """The other peer."""

    @property
    def peer_id(self) -> str:
        """The other peer's id."""

    @property
    def peer_name(self) -> str:
        """The other peer's name, or its id if it has none."""

    @property
    def endpoint(self) -> str:
        """The endpoint that this side bound or connected."""

    @property
    def services(self) -> Mapping[str, str]:
        """The services that the other peer offers: name to version."""

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""

    def service(self, target: Any, *, name: str | None = None) -> Any:
        """Return a proxy of a service of the other peer's; see :meth:`duplex.Peer.service`."""

    async def aclose(self) -> None:
        """Say goodbye and close the link."""

    async def wait_closed(self) -> None:
        """Return once the link is over."""

    async def ping(self) -> float:
        """Return the seconds that a message to the other peer's event loop and back takes."""

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
