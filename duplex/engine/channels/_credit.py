"""Who waits for credit of a link, and how what comes is shared.

A link may have thousands of streams that wait for its credit. To wake all of them for what is enough for one of them would
cost as much as they are, again and again, and be done in one pass of the event loop.
"""

from __future__ import annotations

from typing import Final, final

import trio

from duplex.engine.channels._user import ChannelUser
from duplex.protocol import MESSAGE_OVERHEAD, Connection

#: Waiters that are told in one pass of the event loop.
MOST_TOLD: Final = 16


@final
class CreditShare:
    """The waiters of one link.

    Attributes:
        waiters: channel ends that have something to send, in the order of their turns; and whether what streams leave to
            others would do for it.
        has_come: the other side has granted more on the link, and nobody was told yet.
    """

    __slots__ = ("_connection", "_to_tell", "has_come", "waiters")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.waiters: dict[ChannelUser, bool] = {}
        self.has_come = False
        #: How many of them were not told of the latest credit.
        self._to_tell = 0

    def share(self) -> None:
        """Let them go on: credit has come. Each is told once, in its turn, as long as there is some left."""
        self.has_come = False
        self._to_tell = len(self.waiters)
        self._tell_some()

    def _tell_some(self) -> None:
        """Tell as many as there may be credit for, and the others in later passes: those that were told may need none."""
        connection = self._connection
        waiters = self.waiters
        credit = connection.link_credit
        for_streams = connection.stream_credit > 0
        if credit <= 0 or not connection.is_open or not (for_streams or True in waiters.values()):
            return
        most = min(credit // MESSAGE_OVERHEAD + 1, MOST_TOLD)
        while most and self._to_tell and waiters:
            self._to_tell -= 1
            waiting = next(iter(waiters))
            is_urgent = waiters.pop(waiting)
            waiters[waiting] = is_urgent  # its next turn is the last one
            if is_urgent or for_streams:
                most -= 1
                waiting.on_credit()
        if self._to_tell and waiters:
            trio.lowlevel.current_trio_token().run_sync_soon(self._tell_some, idempotent=True)
