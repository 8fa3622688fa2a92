"""Streams whose senders do not wait: what becomes of items when a window is full.

A channel end without such an option knows nothing of this module; one with it is of a class of its own, so
that ordinary streams pay nothing.

The option speaks for the end that gave it. When it *sends* and credit is used up, the item is dropped, or it
is queued here and the oldest of the queue makes room, or sending it fails. When it *receives*, the sender has
its credit back as soon as an item arrives, so it never notices a slow reader; what waits here is bounded, and
what is too much is dropped, or fails the stream. Either bound is this peer's ``Limits.channel_window``, in
bytes as flow control counts them. A single item may be larger than that.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast, final

import msgspec

from duplex._config import Overflow
from duplex._errors import DecodeError, ResourceExhausted, RPCError
from duplex.codec._base import Buffer, LiveKind
from duplex.engine.channels._channel_end import ChannelEnd
from duplex.engine.channels._live_values import Child
from duplex.engine.channels._nested import close_local
from duplex.engine.channels._types import ChannelStatistics
from duplex.protocol import ItemsReceived, MessageReceived


class _Queued(NamedTuple):
    """An item that waits for credit."""

    payload: bytes
    attachments: Sequence[Buffer]
    cost: int
    #: The live values in it, which are passed when it is sent.
    fresh: list[tuple[Child | int, Any]] | None


@final
class OverflowState:
    """What a channel end with an overflow option remembers.

    Args:
        policy: the option.
        limit: bytes that may be queued for sending, and that may wait to be received.
        arguments_due: the first message that comes is no item.
    """

    __slots__ = (
        "arguments_due",
        "dropped_received",
        "dropped_sent",
        "end_due",
        "failure",
        "held",
        "limit",
        "policy",
        "queue",
        "queued_bytes",
    )

    def __init__(self, policy: Overflow, limit: int, *, arguments_due: bool = False) -> None:
        self.policy = policy
        self.limit = limit
        self.arguments_due = arguments_due
        #: Bytes that were received and not taken.
        self.held = 0
        self.dropped_received = 0
        self.dropped_sent = 0
        self.queue: deque[_Queued] = deque()
        self.queued_bytes = 0
        #: The sending direction was ended, and ends when the queue is empty.
        self.end_due = False
        #: Why nothing more is received, with ``"error"``.
        self.failure: ResourceExhausted | None = None


class Overflowing(ChannelEnd):
    """What channel ends with an overflow option do differently. Their class has it as its second base, and a
    slot ``overflow``."""

    __slots__ = ()

    overflow: OverflowState

    def fail_receiving(self, error: ResourceExhausted) -> None:
        """Take no more items, and fail with an error where they are received."""
        raise NotImplementedError(f"{type(self).__name__} does not receive")  # pragma: no cover

    # -- receiving -------------------------------------------------------------------------------------

    def on_message(self, event: MessageReceived) -> None:
        """See :meth:`ChannelEnd.on_message`; the sender has its credit back at once."""
        if self._closed_receive:
            super().on_message(event)
            return
        self.bytes_in += event.cost
        self.link.consumed(self.channel, event.cost)
        state = self.overflow
        inbox = cast("deque[MessageReceived]", self.own_inbox())  # on_items() puts no runs into it
        if state.failure is not None:
            self._drop_received(event)
            return
        kept = 2 if state.arguments_due else 1
        if state.held + event.cost > state.limit and len(inbox) >= kept:
            if state.policy == "drop_newest":
                self._drop_received(event)
                return
            if state.policy == "error":
                self._drop_received(event)
                self.fail_receiving(self._too_slow(state.limit))
                return
            while len(inbox) >= kept and state.held + event.cost > state.limit:
                oldest = inbox[kept - 1]
                del inbox[kept - 1]
                state.held -= oldest.cost
                self._drop_received(oldest)
        state.held += event.cost
        inbox.append(event)
        self.wake_receiver()

    def on_items(self, event: ItemsReceived) -> None:
        """See :meth:`ChannelEnd.on_items`."""
        for message in event.messages():
            self.on_message(message)

    async def next_message(self) -> MessageReceived | None:
        """See :meth:`ChannelEnd.next_message`."""
        message = await super().next_message()
        if message is None and self.overflow.failure is not None:
            raise self.overflow.failure
        return message

    def take(self, cost: int) -> None:
        """See :meth:`ChannelEnd.take`; the credit went back when the message came."""
        self.overflow.held -= cost
        self.overflow.arguments_due = False

    def _drop_received(self, message: MessageReceived) -> None:
        self.overflow.dropped_received += 1
        self.link.channels.dropped_items += 1
        if self._children:
            # Nobody is going to decode it, and so to claim and close the channels in it.
            with contextlib.suppress(DecodeError):
                self.codec.decoder(Any)(message.payload, message.attachments, _Refusal(self))

    def _too_slow(self, limit: int) -> ResourceExhausted:
        return ResourceExhausted(
            f"the stream of {self.method} was cut short: more than {limit} bytes of it wait to be received, "
            f"and its overflow is 'error'; receive faster, open this peer with a higher "
            f"Limits(channel_window=...), or choose 'drop_oldest' or 'drop_newest'"
        )

    # -- sending ---------------------------------------------------------------------------------------

    async def send_payload(self, payload: bytes, attachments: Sequence[Buffer], flags: int = 0) -> None:
        """See :meth:`ChannelEnd.send_payload`; an item does not wait. Asked when there is no credit for it."""
        if flags:
            await super().send_payload(payload, attachments, flags)
            return
        state = self.overflow
        cost = self.link.connection.message_cost(payload, attachments)
        if state.policy == "error":
            raise ResourceExhausted(
                f"an item of the stream of {self.method} was not sent: the other side has a window full of "
                f"items that nobody has received, and the overflow is 'error'; send less, open the receiving "
                f"peer with a higher Limits(channel_window=...), or choose 'drop_oldest' or 'drop_newest'"
            )
        fresh, self._fresh = self._fresh, None
        if state.policy == "drop_newest":
            self._drop_unsent(fresh)
            return
        while state.queue and state.queued_bytes + cost > state.limit:
            self._drop_oldest()
        # The sender may go on to change what is only borrowed.
        copies = [buffer if isinstance(buffer, bytes) else bytes(buffer) for buffer in attachments]
        state.queue.append(_Queued(payload, copies, cost, fresh))
        state.queued_bytes += cost
        self.link.credit.waiters.setdefault(self, False)

    def on_credit(self) -> None:
        """See :meth:`ChannelEnd.on_credit`; what is queued comes first."""
        state = self.overflow
        connection = self.link.connection
        # The channel may have ended in the same message: that is told next.
        if state.queue and not self.over and not self._stopped and connection.can_send(self.channel):
            while state.queue and self.may_send():
                item = state.queue.popleft()
                state.queued_bytes -= item.cost
                connection.send(self.channel, item.payload, item.attachments)
                self.bytes_out += item.cost
                if item.fresh is not None:
                    pending, self._fresh = self._fresh, item.fresh
                    self.commit_exports()
                    self._fresh = pending
            if not state.queue:
                self.link.credit.waiters.pop(self, None)
                if state.end_due:
                    connection.end(self.channel)
            self.link.touch()
        super().on_credit()

    async def wait_credit(self, *, result: bool = False) -> None:
        """See :meth:`ChannelEnd.wait_credit`; what is queued waits for credit too, and goes on to."""
        try:
            await super().wait_credit(result=result)
        finally:
            if self.overflow.queue and not self.over:
                self.link.credit.waiters.setdefault(self, False)

    async def send_queued(self) -> None:
        """Wait until nothing is queued for sending, or the channel end is over."""
        while self.overflow.queue and not self.over and not self._stopped:
            await self.wait_credit()

    def end_now(self) -> None:
        """See :meth:`ChannelEnd.end_now`; what is queued comes before the end."""
        if self.overflow.queue and not self._closed_send and not self.over and not self._stopped:
            self._closed_send = self.overflow.end_due = True
        else:
            super().end_now()

    def finish(self, error: RPCError | None) -> None:
        """See :meth:`ChannelEnd.finish`; what is queued is dropped."""
        while self.overflow.queue:
            self._drop_oldest()
        super().finish(error)
        self.link.credit.waiters.pop(self, None)

    def _drop_oldest(self) -> None:
        item = self.overflow.queue.popleft()
        self.overflow.queued_bytes -= item.cost
        self._drop_unsent(item.fresh)

    def _drop_unsent(self, fresh: list[tuple[Child | int, Any]] | None) -> None:
        self.overflow.dropped_sent += 1
        self.link.channels.dropped_items += 1
        if fresh is not None:
            # The sender takes the channels in it for passed, so nobody else is going to close them.
            pending, self._fresh = self._fresh, fresh
            for channel in self.revoke_exports():
                self.link.engine.spawn(close_local, channel)
            self._fresh = pending

    # -- what users see --------------------------------------------------------------------------------

    def statistics(self) -> ChannelStatistics:
        """See :meth:`ChannelEnd.statistics`."""
        state = self.overflow
        return msgspec.structs.replace(
            super().statistics(),
            queued_items=len(state.queue),
            queued_bytes=state.queued_bytes,
            sent=self._sent - state.dropped_sent - len(state.queue),
            dropped=state.dropped_sent + state.dropped_received,
        )


@final
class _Refusal:
    """Takes the live values of an item that was dropped, and closes the channels among them."""

    max_attachments: Final = 0

    def __init__(self, channel_end: ChannelEnd) -> None:
        self.max_elements = channel_end.max_elements
        self._channel_end = channel_end

    def import_(self, kind: LiveKind, number: int) -> None:
        """See :meth:`duplex.codec.LiveValues.import_`."""
        if kind is not LiveKind.CALLBACK:
            self._channel_end.root.claim(number).close_receive()

    def export(self, value: Any) -> None:
        """Nothing is encoded."""

    def adapt(self, value: Any, annotation: Any) -> Any:
        """Nothing has an expected type."""
        return value
