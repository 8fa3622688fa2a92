"""Leaving in order: what runs may finish, nothing new begins, and what was answered arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from duplex._errors import Unavailable
from duplex._numbers import check_seconds
from duplex._status import StatusCode
from duplex.engine._runs import check_run
from duplex.engine._watch import CLEAN_UP

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink
    from duplex.engine._peer import BasePeer

logger = logging.getLogger("duplex")

#: What callers are told whose calls were cancelled.
LATE: Final = "the peer is draining and the call did not end in time"
#: Seconds that the other sides have, at the least, to confirm that what was sent has arrived.
CONFIRM: Final = 1.0


async def drain(peer: BasePeer[Any, Any], timeout: float) -> None:
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
        # Whoever linked at the last moment has to be refused before the sockets are closed.
        peer.workers.lazily = False
        peer.note_health()
        for link in peer.links:
            link.leave("draining", "the peer is draining")
            link.cancel_calls("the peer is draining and the stream can go on elsewhere", resumable=True)
    busy = {link for link in peer.links if link.calls_to_finish}
    await _until(peer, lambda: _calls(peer) == 0, timeout)
    if rest := _calls(peer):
        logger.warning("draining: %d calls did not end within %g s and are cancelled", rest, timeout)
        for link in peer.links:
            link.cancel_calls(LATE)
        for call in list(peer.left_behind):
            call.cut(StatusCode.UNAVAILABLE, LATE)
        peer.results.cut(StatusCode.UNAVAILABLE, LATE)
        await _until(
            peer,
            lambda: not (any(link.running or link.callbacks for link in peer.links) or peer.left_behind),
            CLEAN_UP,
        )
    await _confirm(peer.links, busy, deadline)
    peer.close(linger=0.0)


def _calls(peer: BasePeer[Any, Any]) -> int:
    attended: int = sum(link.calls_to_finish for link in peer.links)
    return attended + len(peer.left_behind) + peer.results.unattended


async def _until(peer: BasePeer[Any, Any], condition: Callable[[], bool], seconds: float) -> None:
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

    async def ping(link: BaseLink) -> None:
        with trio.move_on_at(max(soon, deadline) if link in busy else soon):
            try:
                await link.ping()
            except Unavailable:
                pass  # it is gone, and nothing that was sent to it matters any more

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(ping, link)
