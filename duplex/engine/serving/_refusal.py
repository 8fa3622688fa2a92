"""The answer to a call, or to a channel that is a value, which is not taken at all."""

from __future__ import annotations

import logging
from typing import Final

from duplex._metadata import REFUSED, RETRY_AFTER, metadata_size, retry_after_text
from duplex._status import StatusCode
from duplex.engine.channels import opening_bytes
from duplex.engine.serving._end import ServingLink
from duplex.engine.serving._observer import UnservedCall
from duplex.engine.serving._who import CALLBACK
from duplex.protocol import ChannelOpened, ChannelState

logger = logging.getLogger("duplex")

#: Characters of the text of a refusal.
MOST_REFUSAL: Final = 1024


def refuse(
    link: ServingLink,
    event: ChannelOpened,
    status: StatusCode,
    message: str,
    *,
    retry_after: float | None = None,
) -> None:
    """Answer a call that is not to run at all.

    Args:
        link: which it came over.
        event: the call.
        status: why.
        message: why, for the caller. Cut to a length that costs this side little, as asking costs the other side
            nothing.
        retry_after: seconds after which it may try again.
    """
    message = message[:MOST_REFUSAL]
    if event.notify:
        more = link.throttle.note("notifications that were not handled", link.now)
        if more is not None:
            logger.warning("a notification from %s was not handled: %s%s", link.peer_name, message, more)
        link.connection.finish(event.channel)
    elif link.connection.channel_state(event.channel) is not ChannelState.OVER:
        # It is over if what came with its OPEN, in the same batch, broke the channel.
        trailers = {REFUSED: "1"}
        if retry_after is not None:
            trailers[RETRY_AFTER] = retry_after_text(retry_after)
        fits = metadata_size(trailers) <= link.connection.max_metadata
        link.channels.close(event.channel, status, message=message, trailers=trailers if fits else None)
    if (counting := link.engine.counting) is not None and event.target is not None:
        if status == StatusCode.UNIMPLEMENTED:
            counting.unknown += 1
        else:
            name = event.target if isinstance(event.target, str) else CALLBACK
            counting.served[name].ended(status, 0.0, opening_bytes(event), 0)
    observer = link.engine.observer
    if observer is not None and event.target is not None:
        observer.note(
            UnservedCall(
                method=event.target if isinstance(event.target, str) else CALLBACK,
                peer=link.remote,
                status=status,
                message=message,
                metadata=event.metadata,
                notify=event.notify,
            )
        )
