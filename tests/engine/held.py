"""What is usual between two processes on a busy machine, and never happens in one: answers that arrive together with all
that came before them, and tasks that begin after that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, final

import trio.testing

import duplex


@final
class Held:
    """Stands between a link and its carrier, and keeps what is sent."""

    def __init__(self, link: duplex.Link) -> None:
        self._link = link
        self._carrier = link._inside.carrier
        #: What is kept.
        self.messages: list[list[bytes]] = []
        link._inside.outbound.carrier = self

    @property
    def address(self) -> str:
        """See :class:`duplex.transports.Carrier`."""
        return self._carrier.address

    @property
    def identity(self) -> duplex.Identity:
        """See :class:`duplex.transports.Carrier`."""
        return self._carrier.identity

    @property
    def turns(self) -> Any:
        """See :class:`duplex.transports.Carrier`."""
        return self._carrier.turns

    def send(self, frames: Any) -> None:
        """Keep a message."""
        self.messages.append([bytes(frame) for frame in frames])

    def close(self) -> None:
        """Deliver what was kept and then the end."""
        self.release()
        self._carrier.close()

    async def kept(self) -> int:
        """Wait until nothing more is going to be said for now; return how many messages are kept."""
        await trio.testing.wait_all_tasks_blocked()
        return len(self.messages)

    def release(self) -> None:
        """Deliver all that was kept, in one turn of whoever receives it, and from now on without delay. Idempotent."""
        self._link._inside.outbound.carrier = self._carrier
        messages, self.messages = self.messages, []
        for message in messages:
            self._carrier.send(message)


@contextlib.contextmanager
def held(link: duplex.Link) -> Iterator[Held]:
    """Keep what one end of a link says until it is released, or the block is left.

    For memory endpoints, whose receivers take up to 32 messages in a turn.
    """
    hold = Held(link)
    try:
        yield hold
    finally:
        hold.release()


@contextlib.contextmanager
def late_tasks(peer: duplex.Peer) -> Iterator[None]:
    """Let no task of a peer's own begin in this block, but those that receive and run handlers."""
    waiting: list[tuple[Any, ...]] = []

    def spawn(function: Any, *args: Any, name: str | None = None) -> None:
        waiting.append((function, *args))

    own = peer._inside.spawn
    vars(peer._inside)["spawn"] = spawn
    try:
        yield
    finally:
        vars(peer._inside)["spawn"] = own
        for task in waiting:
            peer._inside.spawn(*task)
