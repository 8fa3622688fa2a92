"""What the protocol's own keys in the metadata of a call ask for, before its handler is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duplex._metadata import IDEMPOTENCY_KEY, RESUME_KEY
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._handler import Handler
from duplex.protocol import ChannelOpened

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink


def take_reserved(link: BaseLink, event: ChannelOpened, handler: Handler, codec: Codec) -> bool:
    """Return whether a call was dealt with because of a key of the protocol's own; else it is an ordinary one."""
    metadata = event.metadata
    if RESUME_KEY in metadata and not handler.resumable:
        link.refuse(
            event,
            StatusCode.INVALID_ARGUMENT,
            f"{handler.method} is not resumable: call it without resume=True, or declare it with "
            f"@rpc(resumable=True)",
        )
        return True
    if IDEMPOTENCY_KEY in metadata:
        link.peer.results.admit(link, event, handler, codec)
        return True
    return False
