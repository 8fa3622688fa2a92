"""Who is at the other end of a link."""

from __future__ import annotations

from typing import final

import msgspec

from duplex._identity import ANONYMOUS, Identity


@final
class PeerInfo(msgspec.Struct, frozen=True):
    """Who is at the other end of a link."""

    #: Random, made when the peer was opened.
    id: str
    #: What the peer calls itself; may be empty.
    name: str
    #: Who it is, as far as it has been proved. Only this says anything that the peer could not make up.
    identity: Identity = ANONYMOUS

    def __str__(self) -> str:
        return self.name or self.id
