"""How a peer finds out who it is linked to: what is to be decided by, and who decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, final

from duplex._errors import ConfigurationError
from duplex._identity import Identity

#: Bytes that ``HELLO`` takes of them.
MOST_CREDENTIALS: Final = 8192


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What is known of a peer when a link to it is about to be made: what an :class:`Authenticator` decides by."""

    #: What the peer calls itself, by an id and by a name: nothing of it is proved.
    peer_id: str
    peer_name: str
    #: What it has sent to prove who it is, as ``credentials`` of its :func:`open_peer` says; ``None`` if nothing. At most 8192 bytes.
    credentials: bytes | None = dataclasses.field(repr=False)
    #: Who it is, as far as the connection itself has proved it.
    identity: Identity
    #: Where it is, for logs and rules such as those for networks. What is behind it may be a proxy.
    address: str
    #: The endpoint that this side has bound, or connected.
    endpoint: str
    #: Whether this side has connected, rather than bound.
    connecting: bool


class Authenticator(Protocol):
    """Says who a peer is that wants a link, or that one is wanted to: an ``async`` function, or an object that can be called so."""

    async def __call__(self, handshake: Handshake, /) -> Identity:
        """Return who the peer is; ``handshake.identity`` for who its connection says.

        It is awaited for every link, by both sides if both have one, before any call is made or served. It has five seconds,
        or ``Keepalive.timeout`` if that is less; then there is no link.

        Raises:
            Unauthenticated: the credentials are missing or wrong. The other side is told the message.
            PermissionDenied: it is known who the peer is, and it is to have no link. The other side is told the message.

        Whatever else is raised means that there is no link either: it is logged here, with a number, and the other side is told
        the number alone. Cancelled when the connection ends in the meantime.
        """


#: What a peer shows to others, for an endpoint; ``None``: nothing.
Credentials: TypeAlias = Callable[[str], bytes | None]


def checked_credentials(given: object) -> Credentials | None:
    """Return what gives the credentials for an endpoint, which may be given as bytes.

    Raises:
        ConfigurationError: they are neither bytes nor a function, or too long.
    """
    if given is None:
        return None
    if callable(given):
        function: Callable[[str], object] = given
        return lambda endpoint: _checked(function(endpoint))
    found = _checked(given)
    return lambda _endpoint: found


def _checked(given: object) -> bytes | None:
    if given is not None and not isinstance(given, bytes):
        raise ConfigurationError(
            f"credentials must be bytes, or a function that returns some, not a {type(given).__name__}"
        )
    if given is not None and len(given) > MOST_CREDENTIALS:
        raise ConfigurationError(
            f"credentials of {len(given)} bytes are over the limit of {MOST_CREDENTIALS}"
        )
    return given
