"""Looking after the links of a peer, all the time."""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio

from duplex._config import Keepalive
from duplex.engine.channels import Dropped
from duplex.engine.links._ports import Ports
from duplex.engine.serving import Admission, ResultCache

#: Links that are looked after at once. More are spread over a part of the period, or the pings of a thousand links and
#: their answers would keep both event loops busy for a tenth of a second.
_AT_ONCE: Final = 32


class WatchedPeer(Protocol):
    """The peer."""

    @property
    def keepalive(self) -> Keepalive:
        """How links are watched, and how long they are kept."""

    @property
    def ports(self) -> Ports:
        """What its links came by."""

    @property
    def results(self) -> ResultCache:
        """What is remembered of calls with an idempotency key."""

    @property
    def dropped(self) -> Dropped:
        """Ends of channels that nobody holds any more."""

    @property
    def admission(self) -> Admission:
        """Which calls are taken."""


async def watch_links(peer: WatchedPeer) -> None:
    """Look after every link of a peer, for as long as the peer lives."""
    keepalive = peer.keepalive
    # Links are closed for age and idleness within a fraction of the time that they were given.
    period = min(
        keepalive.interval,
        math.inf if keepalive.max_idle is None else keepalive.max_idle / 4,
        math.inf if keepalive.max_age is None else keepalive.max_age / 20,
    )
    due = trio.current_time() + period
    next_ping = trio.current_time() + keepalive.interval
    while True:
        delay = await _sleep_until(due)
        began = now = trio.current_time()
        ping = now >= next_ping - period / 2
        if ping:
            next_ping = now + keepalive.interval
        peer.results.expire()
        peer.dropped.look(now)
        peer.admission.note_handlers()
        links = [link for receiver in peer.ports.receivers for link in receiver.links.values()]
        pause = period / 2 * _AT_ONCE / max(1, len(links))
        for start in range(0, len(links), _AT_ONCE):
            if start:
                delay = await _sleep_until(trio.current_time() + pause)
                now = trio.current_time()
            for link in links[start : start + _AT_ONCE]:
                if link.is_open:
                    if ping:
                        link.keeper.ping(delay)
                    link.keeper.look(now)
                else:
                    link.handshake.look(now)
                del link  # those that are over are not kept until the next time
        due = max(began + period, trio.current_time() + period / 2)
        del links


async def _sleep_until(due: float) -> float:
    """Sleep, and return the seconds by which the event loop was late."""
    await trio.sleep_until(due)
    return trio.current_time() - due
