"""What costs no credit, while the other side has not read much of the same that it was sent before.

Errors, trailers and the metadata of calls cost none, so the link is cut if too much of them waits to be read (``Limits.max_unsent``).
An honest peer may fail some thousand calls at once, or make them. That the other side has read nothing of it yet is
no reason to cut its link: from half of the bound on, errors are told in short, and calls with metadata and results with trailers wait.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from duplex._metadata import RESERVED_PREFIX
from duplex.engine.channels._host import ChannelHost

logger = logging.getLogger("duplex")

#: Characters of an error's text that are told then.
SHORT: Final = 256


def is_much_unread(link: ChannelHost) -> bool:
    """Whether much of what cost no credit is not known to have arrived."""
    return link.connection.free_unread > link.engine.limits.max_unsent // 2


def in_short(
    link: ChannelHost, message: str, trailers: Mapping[str, str | bytes] | None
) -> tuple[str, None, dict[str, str | bytes]]:
    """Return the message, details and trailers that are told of an error then."""
    more = link.throttle.note("errors without their details", link.now)
    if more is not None:
        logger.warning(
            "errors are told to %s without their details and trailers, because %d bytes of answers wait for it to read "
            "them (Limits.max_unsent)%s",
            link.peer_name,
            link.connection.free_unread,
            more,
        )
    own = {key: value for key, value in (trailers or {}).items() if key.startswith(RESERVED_PREFIX)}
    return message[:SHORT], None, own
