"""Links to one endpoint that take each other's place: how soon the next one is made, and how many are kept."""

from __future__ import annotations

from typing import Final, Protocol, final

from duplex._config import Reconnect
from duplex._errors import RPCError
from duplex.engine.channels import ChannelTable
from duplex.transports._backoff import Backoff

#: Links that the other side has left and on which nothing runs that this side has begun.
MOST_LEFT: Final = 8


class LeftLink(Protocol):
    """A link that takes no more calls."""

    @property
    def error(self) -> RPCError | None:
        """Why it is over, once it is."""

    @property
    def channels(self) -> ChannelTable:
        """Who uses its channels."""

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""


@final
class Succession:
    """What is remembered from one link to the next, for a remote end that takes no calls must not keep this side busy.

    Args:
        policy: the pauses, for links that were left before they had lasted.
    """

    def __init__(self, policy: Reconnect) -> None:
        self._policy = policy
        #: ``None`` as long as no link was left early.
        self._backoff: Backoff | None = None
        self._left: list[LeftLink] = []

    def pause(self, lived: float) -> float:
        """Return the seconds until the next link is made, now that the other side has left one.

        At once, after one that has lived for as long as the longest pause: it was drained, and behind the same endpoint
        there may be others. Also at once the first time that one was left sooner. From then on links begin no more
        often than a policy for attempts that fail has it.

        Args:
            lived: seconds since the link was made.
        """
        if lived >= self._policy.maximum:
            self._backoff = None
            return 0.0
        if self._backoff is None:
            self._backoff = Backoff(self._policy)
            return 0.0
        return max(0.0, self._backoff.pause(lived) - lived)

    def left(self, link: LeftLink) -> LeftLink | None:
        """Note that the other side has left a link. Return one that is to be ended because they add up, if there is.

        The side that leaves a link ends it, as a rule, and nothing else bounds the number of those on which this side waits for
        nothing.
        """
        self._left = [*(before for before in self._left if before.error is None), link]
        idle = [link for link in self._left if not any(made.opener for made in link.channels.users.values())]
        return idle[0] if len(idle) > MOST_LEFT else None
