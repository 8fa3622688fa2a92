"""Opens the channels of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from duplex._errors import Unimplemented
from duplex._metadata import IDEMPOTENCY_KEY
from duplex.codec._base import Buffer
from duplex.engine.calling._request import Request
from duplex.engine.threads import served_call
from duplex.protocol import NOTIFY

if TYPE_CHECKING:
    from duplex.engine.calling._host import CallHost
    from duplex.engine.channels import ChannelUser


def open_channel(
    link: CallHost,
    channel_end: ChannelUser,
    request: Request,
    timeout: float | None,
    payload: bytes | None = None,
    attachments: Sequence[Buffer] = (),
    flags: int = 0,
) -> int:
    """Open the channel of a call and return its number.

    Args:
        link: the link that the call takes.
        channel_end: what is told of all that comes on the channel.
        request: what is called.
        timeout: seconds that the other side is told it has.
        payload: the first message, for which there must be link credit; ``None`` if it follows.
        attachments: those of the first message.
        flags: those of ``OPEN``.

    Raises:
        Unavailable: the link takes no new calls.
        ResourceExhausted: a limit of the other side's.
        Unimplemented: there is an idempotency key, and the other side would not keep it.
    """
    link.engine.check_thread()
    connection = link.connection
    parent = _served_on(link) if request.parent is None else request.parent
    if not connection.is_open or (parent is None and (connection.remote_leaving or link.is_parted)):
        raise link.unavailable()
    metadata = request.metadata
    if metadata and IDEMPOTENCY_KEY in metadata and not link.keeps_keys:
        error = Unimplemented(
            f"{link.peer_name} keeps no idempotency keys, so a repeated call may run twice there: nothing was sent. "
            f"Call it without idempotency_key"
        )
        error.may_have_executed = False
        raise error
    codec = request.codec.name
    channel = connection.open(
        request.target,
        payload=payload,
        attachments=attachments,
        flags=flags,
        timeout=timeout,
        metadata=metadata,
        parent=parent,
        codec=None if codec == "msgpack" else codec,
    )
    if not flags & NOTIFY:
        link.channels.users[channel] = channel_end
    link.touch()
    return channel


def _served_on(link: CallHost) -> int | None:
    """Return the channel of the call that the running handler serves, if that one came over the same link and is not over.

    What a handler asks of its caller is part of the call. Said so, it is taken although either side leaves the link: calls
    that run may finish.
    """
    serving = served_call.get(None)
    if serving is None or serving.link is not link:
        return None
    channel: int = serving.end.channel
    return channel if link.connection.runs(channel) else None
