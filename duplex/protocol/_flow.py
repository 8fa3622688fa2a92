"""Flow control by credit: one class, one algorithm, for channels and for links alike.

Every message costs its bytes, payload and attachments together, plus :data:`MESSAGE_OVERHEAD`, so that a
flood of tiny messages is bounded too. A receiver advertises a window. A sender may send a message whenever
its balance is **above zero**, and then pays the full cost, so the balance may fall below zero by at most one
message: a message larger than the window can travel, and what a receiver holds is bounded by its window plus
one message. The receiver keeps the same account; a message that comes while the balance is zero or less is
an overrun.

The receiver gives credit back as the application takes messages, in grants of **at least half the window**,
so that a steady stream costs two small commands a window. The sum of what was granted always equals the sum
of what was consumed, so nothing is lost however messages and grants cross on the way.

On a link, what one application does not take must not hold up the others. So a receiver may *park* messages:
up to a number of bytes that it chooses, those that wait in the queues of their channels count as consumed on
the link; the channels' own windows hold their senders back. What is parked no longer counts, the link's
window bounds what is on its way. And a sender keeps an eighth of the link's window for calls and their
results, so that streams which nobody reads never shut them out.
"""

from __future__ import annotations

from typing import Final, final

from msgspec import Struct

from duplex.protocol._commands import LimitsInfo

#: Bytes added to the cost of every message.
MESSAGE_OVERHEAD: Final = 64
#: Bytes added to the cost of the message of a channel opened with NOTIFY. Nobody counts such channels, so their credit,
#: given back when the handler has ended, is what bounds how many run at once: 4096 with the default window.
NOTIFY_OVERHEAD: Final = 4096
#: ``OPEN``, ``END``, ``CANCEL``, ``CLOSE`` and grants of a channel, generously.
_WITHOUT_CREDIT: Final = 8
#: Pings, answers and the like, for as long as an event loop may be blocked.
_SIGNS_OF_LIFE: Final = 1000


def most_waiting(limits: LimitsInfo) -> int:
    """Return how many commands of a peer that keeps to the rules can wait here, at most, while nobody takes any:
    what the link's credit pays for, what needs no credit (a few for each channel), and signs of life."""
    return limits.link_window // MESSAGE_OVERHEAD + _WITHOUT_CREDIT * limits.max_channels + _SIGNS_OF_LIFE


def least_grant(window: int) -> int:
    """Return how many bytes are given back at once, at least: half of a window."""
    return window // 2 or 1


#: Items of streams leave this part of a link's window to calls and results.
RESERVED_PART: Final = 8


# Two windows are made for each call, and for each a class of Python's own would take ten times as long as a Struct.
@final
class SendWindow(Struct, eq=False, gc=False):
    """What this side may still send on a channel."""

    balance: int


@final
class LinkSendWindow:
    """The sender's account for all channels of a link together, and never more than this side wants to keep.

    A window is the other side's word, and so is a grant: who says large numbers and reads nothing would have this
    side keep all that it has to send. So what is sent and not *proven* to have arrived stays below a bound of this
    side's own. A ping that is answered proves all that was sent before it.

    Args:
        bound: bytes that may be sent and not proven; beyond it there is no credit, whatever was granted.
    """

    __slots__ = ("_bound", "_granted", "_limit", "_proven", "_share", "balance", "reserved")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        # Totals since the link began: what was granted, what was proven, and what may be sent.
        self._granted = 0
        self._proven = 0
        self._limit = 0
        #: What streams leave to calls and results of what was granted.
        self._share = 0
        #: What may be sent now.
        self.balance = 0
        #: How much of that streams leave to calls and results.
        self.reserved = 0

    def open(self, window: int) -> None:
        """Begin with what the other side advertises."""
        self._share = window // RESERVED_PART
        self.grant(window)

    @property
    def sent(self) -> int:
        """Bytes that were paid for since the link began."""
        return self._limit - self.balance

    @property
    def granted(self) -> int:
        """What the other side thinks that may be sent now."""
        return self._granted - self.sent

    def grant(self, amount: int) -> None:
        """The other side grants more."""
        self._granted += amount
        self._set_limit()

    def prove(self, sent: int) -> None:
        """All has arrived that was sent when :attr:`sent` was so much."""
        self._proven = sent
        self._set_limit()

    def _set_limit(self) -> None:
        most = self._proven + self._bound
        limit = min(self._granted, most)
        self.balance += limit - self._limit
        self._limit = limit
        # An eighth of what was granted, and of what this side wants to keep.
        self.reserved = limit - min(self._granted - self._share, most - self._bound // RESERVED_PART)


@final
class ReceiveWindow(Struct, eq=False, gc=False):
    """What the other side may still send on a channel, and what is to be given back to it."""

    #: What the sender thinks it has, once our grants have arrived.
    balance: int
    #: As much is granted at once, at least: see :func:`least_grant`.
    threshold: int
    #: Received, not taken by the application yet.
    unconsumed: int = 0
    #: Taken, not granted again yet.
    consumed: int = 0

    def consume(self, cost: int) -> int:
        """Account for messages of ``cost`` bytes that were taken; return the grant to send now, or 0."""
        self.unconsumed -= cost
        self.consumed += cost
        if self.consumed < self.threshold:
            return 0
        grant, self.consumed = self.consumed, 0
        self.balance += grant
        return grant


@final
class LinkReceiveWindow:
    """The receiver's account for all channels of a link together, some of whose messages are parked.

    Always: ``balance + (unconsumed - parked) + consumed == window``.
    """

    __slots__ = ("balance", "buffer", "consumed", "parked", "pinned", "threshold", "unconsumed")

    def __init__(self, window: int, buffer: int) -> None:
        #: What the sender thinks it has, once our grants have arrived.
        self.balance = window
        #: Received, not taken by the application yet, parked or not.
        self.unconsumed = 0
        #: The part of ``unconsumed`` that is never parked: notifications, which no other window bounds.
        self.pinned = 0
        #: The part of ``unconsumed`` that counts as consumed, and how much that may be.
        self.parked = 0
        self.buffer = buffer
        #: Consumed, not granted again yet.
        self.consumed = 0
        self.threshold = least_grant(window)

    def park(self) -> int:
        """Let what waits count as consumed, as far as the buffer goes; return the grant to send now, or 0.

        That need not be done for every message, only before the sender runs short. A message that came may also
        have made of what was consumed half of what nobody holds.
        """
        more = min(self.buffer, self.unconsumed - self.pinned) - self.parked
        if more > 0:
            self.parked += more
            self.consumed += more
        return self._grant()

    def consume(self, cost: int) -> int:
        """Account for messages of ``cost`` bytes that were taken; return the grant to send now, or 0."""
        self.unconsumed -= cost
        if self.parked:
            counted = self.parked - min(self.buffer, self.unconsumed - self.pinned)
            if counted > 0:
                self.parked -= counted
                cost -= counted
        self.consumed = consumed = self.consumed + cost
        if consumed < self.threshold and consumed < self.balance:
            return 0  # the usual case, without a call
        return self._grant()

    def pass_through(self, cost: int) -> int:
        """Account for a message that is taken in the moment in which it comes; return the grant to send now, or 0."""
        self.balance -= cost
        self.consumed = consumed = self.consumed + cost
        if consumed < self.threshold and consumed < self.balance:
            return 0
        return self._grant()

    def _grant(self) -> int:
        # Half of what nobody holds, not half of the window: what is held may never be taken.
        consumed = self.consumed
        if not consumed or (consumed < self.threshold and consumed < self.balance):
            return 0
        self.consumed = 0
        self.balance += consumed
        return consumed
