"""Who is at the other end of a link."""

from __future__ import annotations

from typing import Final, final

import msgspec

from duplex.protocol import Connection

#: What the names of Duplex's own services begin with.
BUILTIN: Final = "duplex."
#: What a callback is called in logs.
CALLBACK: Final = "callback"


@final
class PeerInfo(msgspec.Struct, frozen=True):
    """Who is at the other end of a link."""

    #: Random, made when the peer was opened.
    id: str
    #: What the peer calls itself; may be empty.
    name: str

    def __str__(self) -> str:
        return self.name or self.id


def peer_info(connection: Connection) -> PeerInfo:
    """Return who is at the other end of a link that has greeted."""
    remote = connection.remote
    assert remote is not None
    return PeerInfo(remote.peer_id, remote.name)
