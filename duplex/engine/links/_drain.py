"""Leaving in order: what runs may finish, nothing new begins, and what was answered arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from duplex._errors import Unavailable
from duplex._numbers import check_seconds
from duplex._status import StatusCode
from duplex.engine._runs import check_run
from duplex.engine.links._session import Greeting, LinkOwner, Session
from duplex.engine.serving import ResultCache
from duplex.engine.threads import CLEAN_UP

logger = logging.getLogger("duplex")

#: What callers are told whose calls were cancelled.
LATE: Final = "the peer is draining and the call did not end in time"
#: Seconds that the other sides have, at the least, to confirm that what was sent has arrived.
CONFIRM: Final = 1.0


class Announcing(Greeting, Protocol):
    """What a peer offers, and whether it takes calls."""

    def note_health(self) -> None:
        """Health may be another than before."""


class DrainingPeer(LinkOwner, Protocol):
    """The peer."""

    #: No new calls are taken.
    is_draining: bool

    @property
    def links(self) -> list[Session]:
        """The links that are open."""

    @property
    def results(self) -> ResultCache:
        """What is remembered of calls with an idempotency key."""

    @property
    def services(self) -> Announcing:
        """What it offers."""

    def close(self, linger: float | None = None) -> None:
        """Say goodbye on every link and close every port."""


async def drain(peer: DrainingPeer, timeout: float) -> None:
    """See :meth:`duplex.Peer.drain`."""
    check_seconds("the timeout of drain()", timeout, forever=True)
    peer.check_thread()
    check_run()
    await trio.lowlevel.checkpoint()
    deadline = trio.current_time() + timeout
    if peer.is_closed:
        return
    if not peer.is_draining:
        peer.is_draining = True
        # A peer that linked at the last moment has to be refused before the sockets are closed.
        peer.workers.lazily = False
        peer.services.note_health()
        for link in peer.links:
            link.leave("draining", "the peer is draining")
            link.channels.cut("the peer is draining and the stream can go on elsewhere", resumable=True)
    rest = _Rest(peer)
    busy = set() if rest.is_over else rest.links
    await _until(peer, lambda: rest.is_over, timeout)
    if not rest.is_over:
        logger.warning("draining: %d calls did not end within %g s and are cancelled", rest.count(), timeout)
        for link in peer.links:
            link.channels.cut(LATE)
        for call in list(peer.left_behind):
            call.cut(StatusCode.UNAVAILABLE, LATE)
        peer.results.cut(StatusCode.UNAVAILABLE, LATE)
        await _until(
            peer,
            lambda: not (peer.admission.running or peer.callbacks.running or peer.left_behind),
            CLEAN_UP,
        )
    await _confirm(peer.links, busy, deadline)
    peer.close(linger=0.0)


class _Rest:
    """The calls that a drain waits for. Those with a link are looked for only when all that were found are over: there
    may be thousands, of which one ends after the other, and others that nobody waits for."""

    def __init__(self, peer: DrainingPeer) -> None:
        self._peer = peer
        self._found: list[tuple[Session, int]] = []

    @property
    def is_over(self) -> bool:
        """Whether there are none any more."""
        peer = self._peer
        return self._are_attended_over() and not peer.left_behind and not peer.results.unattended

    def _are_attended_over(self) -> bool:
        while self._found:
            link, channel = self._found[-1]
            if channel in link.channels.users:
                return False
            self._found.pop()
        self._found = [
            (link, channel)
            for link in self._peer.links
            for channel, user in link.channels.users.items()
            if user.delays_drain
        ]
        return not self._found

    @property
    def links(self) -> set[Session]:
        """The links of those that were found."""
        return {link for link, _ in self._found}

    def count(self) -> int:
        """Return how many there are."""
        self._found = []
        self._are_attended_over()
        return len(self._found) + len(self._peer.left_behind) + self._peer.results.unattended


async def _until(peer: DrainingPeer, condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds which only a call's end can bring about, or the time is over."""
    with trio.move_on_after(max(0.0, seconds)):
        while not condition() and not peer.is_closed:
            await peer.call_ended.wait()


async def _confirm(links: list[Any], busy: set[Any], deadline: float) -> None:
    """Wait until every other side has answered a ping, and so has read everything before it.

    Args:
        links: those that stand.
        busy: those with calls that have just finished: what they were answered may be much, and is waited for
            until the deadline. The others have a moment.
        deadline: of the drain, as :func:`trio.current_time` counts.
    """
    soon = trio.current_time() + CONFIRM

    async def ping(link: Session) -> None:
        with trio.move_on_at(max(soon, deadline) if link in busy else soon):
            try:
                await link.ping()
            except Unavailable:
                pass  # it is gone, and nothing that was sent to it matters any more

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(ping, link)
