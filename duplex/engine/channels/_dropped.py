"""Ends of channels that were dropped without being closed, so that the other end would wait without end.

That is a mistake of the application's, of which it is told by a ``ResourceWarning``, as for a file; but on a link it would
cost more than memory: a task and a place of the call's as long as that lives, here and at the other side. So such
channels are closed when the peer looks after its links the next time.

Of the ends that Duplex made it is told by a weak reference. Of a memory channel of trio's, of which one end was passed,
nothing tells that all the others are gone; but both ends share one object that nobody else has, so if there is but one
reference to it, it is that of the end that was passed.
"""

from __future__ import annotations

import logging
import sys
import warnings
import weakref
from typing import Any, Final, Protocol, TypeAlias, final

import trio

logger = logging.getLogger("duplex")

#: Seconds after which an end that was dropped is closed: the call may be about to end, and its ends with it.
GRACE: Final = 1.0


class Named(Protocol):
    """A link."""

    @property
    def peer_name(self) -> str:
        """The name of the other peer."""


class Droppable(Protocol):
    """A channel of whose ends one may be dropped."""

    @property
    def link(self) -> Named:
        """The link that it is on."""

    @property
    def over(self) -> bool:
        """Whether both sides are done with it."""

    def close_dropped(self) -> None:
        """Close the end that was dropped."""

    def give_up_pump(self, reason: str) -> None:
        """Nobody is at the other end of the local channel any more."""


_MemoryEnd: TypeAlias = trio.MemorySendChannel[Any] | trio.MemoryReceiveChannel[Any]


def _references(end: Any) -> int:
    return sys.getrefcount(getattr(end, "_state", None))


def _of_one_end() -> int:
    return _references(trio.open_memory_channel[None](0)[0])


#: What :func:`_references` counts if there is one end.
_ALONE: Final = _of_one_end()


def is_left_alone(end: _MemoryEnd) -> bool:
    """Whether an end that is moved from or to waits for another one which was dropped without being closed.

    An item that was taken from it and is on its way is no reason to wait, and neither is an end that was closed: who
    moves items is told of that.
    """
    if not hasattr(end, "_state") or _references(end) > _ALONE:
        return False
    statistics = end.statistics()
    if isinstance(end, trio.MemoryReceiveChannel):
        return statistics.tasks_waiting_receive > 0
    return statistics.open_receive_channels > 0


@final
class Dropped:
    """What was dropped at one peer, and what may have been."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        #: Channels whose end was dropped, and since when.
        self._channels: dict[Droppable, float] = {}
        #: Channels that are pumped from or to a memory channel.
        self._pumped: dict[Droppable, _MemoryEnd] = {}

    def watch(self, channel: Droppable, end: object) -> weakref.ref[Any]:
        """Return what has to be kept as long as the channel is not over: it notices that its end is dropped."""

        def dropped(_: object) -> None:
            # The garbage collector may do this in any thread.
            if not channel.over:  # or the run of trio may be, too
                self._token.run_sync_soon(self._note, channel)

        return weakref.ref(end, dropped)

    def _note(self, channel: Droppable) -> None:
        if not channel.over:
            self._channels[channel] = trio.current_time()

    def pumped(self, channel: Droppable, local: object) -> None:
        """A channel is moved from or to a local one from now on."""
        if isinstance(local, (trio.MemorySendChannel, trio.MemoryReceiveChannel)):
            self._pumped[channel] = local

    def pump_ended(self, channel: Droppable) -> None:
        """It is not any more."""
        self._pumped.pop(channel, None)

    def look(self, now: float) -> None:
        """Close what was dropped."""
        for channel, since in list(self._channels.items()):
            if channel.over or now >= since + GRACE:
                del self._channels[channel]
            if not channel.over and now >= since + GRACE:
                _warn(f"a channel from {channel.link.peer_name} was dropped without being closed")
                channel.close_dropped()
        for channel, local in list(self._pumped.items()):
            if is_left_alone(local):
                del self._pumped[channel]
                what = "sending" if isinstance(local, trio.MemoryReceiveChannel) else "receiving"
                why = f"its {what} end was dropped without being closed"
                _warn(f"a channel was passed to {channel.link.peer_name}, and {why}")
                channel.give_up_pump(why)


def _warn(text: str) -> None:
    try:
        warnings.warn(text, ResourceWarning, stacklevel=1)
    except ResourceWarning:
        logger.warning("%s", text)  # there is nobody here for whom it could be an error
