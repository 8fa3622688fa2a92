"""Telling those who used a link that it is lost: not all at once, if the other side had thousands of calls served on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from duplex._errors import PeerLost, RPCError
from duplex.engine.channels import ChannelTable

#: How many are told at once, and in each pass of the event loop after that: each of them has a task that ends then.
AT_ONCE: Final = 64
IN_A_PASS: Final = 16


class EndingPeer(Protocol):
    """The peer."""

    @property
    def is_closed(self) -> bool:
        """Whether it has closed all links."""

    def spawn(
        self, function: Callable[..., Awaitable[object]], /, *args: Any, name: str | None = None
    ) -> None:
        """Run something until it ends or the peer does."""


class LostLink(Protocol):
    """The link."""

    @property
    def engine(self) -> EndingPeer:
        """This side's engine."""

    @property
    def channels(self) -> ChannelTable:
        """Who uses its channels."""

    @property
    def error(self) -> RPCError | None:
        """Why it is over."""


def tell_all(link: LostLink, unsent_channel: int) -> None:
    """Tell all users of a link's channels that it is lost.

    Args:
        link: the link.
        unsent_channel: the first of this side's channels that was not handed to the transport.
    """
    users = link.channels.users
    # Nested channels first, or the end of their call would tell them something less to the point.
    ordered = sorted(users.values(), key=lambda user: not user.is_value)
    users.clear()
    users.update((user.channel, user) for user in ordered if not user.outlives_link)
    _tell(link, unsent_channel, len(users) if link.engine.is_closed else AT_ONCE)
    if users:
        link.engine.spawn(_tell_rest, link, unsent_channel, name="duplex lost link")
    for user in ordered:
        if user.outlives_link:
            user.on_lost(_error(link, sent=True))


async def _tell_rest(link: LostLink, unsent_channel: int) -> None:
    users = link.channels.users
    try:
        while users:
            await trio.lowlevel.checkpoint()
            _tell(link, unsent_channel, IN_A_PASS)
    finally:
        # The peer ends, which nobody has to wait for.
        _tell(link, unsent_channel, len(users))


def _tell(link: LostLink, unsent_channel: int, most: int) -> None:
    users = link.channels.users
    while users and most > 0:
        most -= 1
        user = users.pop(next(iter(users)))
        user.on_lost(_error(link, sent=not user.opener or user.channel < unsent_channel))


def _error(link: LostLink, *, sent: bool) -> PeerLost:
    assert link.error is not None
    what = "the call may have executed" if sent else "the call was never sent, so it is safe to repeat"
    error = PeerLost(f"{link.error.message}; {what}")
    error.cancelled_by = "link"
    error.may_have_executed = sent
    return error
