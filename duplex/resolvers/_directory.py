"""What knows all services, and is told of those of a peer. Packages bring it; there is none here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Protocol, cast, final

import msgspec

from duplex._authentication import Credentials
from duplex._config import Advertise
from duplex._errors import ConfigurationError
from duplex.resolvers._resolver import Resolver
from duplex.transports import TLS

#: The scheme of names that are looked up in a directory, and the name of the entry point.
SCHEME: Final = "discovery"
#: The group of the entry point.
GROUP: Final = "duplex.directories"


@final
class Offer(msgspec.Struct, frozen=True):
    """A service that a peer offers at an endpoint, as a directory is to know it.

    Attributes:
        service: its name.
        version: its version.
        endpoint: where the peer is bound.
        peer: the peer's id.
        peer_name: what the peer calls itself; may be empty.
        serving: whether the service takes calls, as its health says.
    """

    service: str
    version: str
    endpoint: str
    peer: str
    peer_name: str
    serving: bool


@final
class Linking(msgspec.Struct, frozen=True, kw_only=True):
    """How a directory links to its servers: as its peer links to others.

    Attributes:
        credentials: returns what is shown at an endpoint; ``None``: nothing is.
        tls: the certificates of ``tls://`` endpoints.
    """

    credentials: Credentials | None = None
    tls: TLS | None = None


class Directory(Protocol):
    """Where a peer looks services up, and registers its own. One for each peer.

    The entry point ``discovery`` of the group ``duplex.directories`` names a function of three arguments that returns one: the servers
    or stores that :func:`duplex.open_peer` was given, a :class:`duplex.Advertise`, and a :class:`Linking`. It raises ``ConfigurationError`` if they make no sense.
    """

    def resolver(self, text: str) -> Resolver:
        """Return what says where a service is, by an endpoint such as ``discovery://calc``.

        Raises:
            ConfigurationError: it is malformed.
        """

    def service_of(self, text: str) -> str:
        """Return the name of the service in such an endpoint.

        Raises:
            ConfigurationError: it is malformed.
        """

    async def names(self) -> Collection[str]:
        """Return the names of all services that have instances, while :meth:`run` runs. It waits for an answer.

        Raises:
            RPCError: there is none.
        """

    def check(self, endpoint: str) -> None:
        """Raise ``ConfigurationError`` if others could not be told how to reach a peer that is bound at an endpoint."""

    def check_service(self, service: str) -> None:
        """Raise ``ConfigurationError`` if a service of that name cannot be registered."""

    def offer(self, offers: Collection[Offer]) -> None:
        """From now on these, and no others, are what the peer offers."""

    async def withdraw(self) -> None:
        """Offer nothing any more, and return once nobody is told of it, or after some seconds without an answer."""

    async def run(self) -> None:
        """Do what is to be done, until cancelled. What fails is tried again, and raises nothing."""


Factory = Callable[[tuple[str, ...], Advertise, Linking], Directory]


def open_directory(servers: tuple[str, ...], advertise: Advertise, linking: Linking) -> Directory:
    """Make the directory of a peer.

    Args:
        servers: where it is asked, or the URL of its store; empty: where it is by default.
        advertise: what others are told of the peer.
        linking: how it links to its servers.

    Raises:
        ConfigurationError: there is none installed, or an argument makes no sense.
    """
    import importlib.metadata  # nobody else needs it

    for entry in importlib.metadata.entry_points(group=GROUP, name=SCHEME):
        return cast("Factory", entry.load())(servers, advertise, linking)
    raise ConfigurationError(
        f"{SCHEME}:// needs a package with the entry point {SCHEME!r} of the group {GROUP}, and there is none: "
        f"duplex-rpc has one, so its installation is not complete"
    )
