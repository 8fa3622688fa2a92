"""What is common to everything that talks on one channel of a link: items in, items out, and the end.

A conversation is driven from two sides. The link calls the ``on_...`` methods, synchronously, as events
arrive. The application awaits :meth:`Conversation.receive_item` and :meth:`Conversation.send_item`. There is
no queue between them other than the inbox, whose size the credit window bounds, and no task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from duplex._errors import DecodeError, InvalidArgument, RPCError
from duplex.codec._base import Buffer, Codec
from duplex.engine._live import CallValues
from duplex.engine._types import ChannelStatistics
from duplex.protocol import CancelReceived, ChannelClosed, MessageReceived

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink

#: A task that streams yields to others once in so many items: a checkpoint costs more than an item.
ITEMS_PER_CHECKPOINT: Final = 32
#: What :meth:`Conversation.receive_now` returns instead of an item.
NOTHING: Final = object()


class Conversation(CallValues):
    """One channel of a link, seen from this side.

    Attributes:
        link: the link that it is on.
        channel: its number.
        codec: what its payloads are encoded in.
        over: both sides are done with it; nothing more comes.
        error: why it failed; ``None`` while it goes on, and if it ended well.
    """

    __slots__ = (
        "_closed_receive",
        "_closed_send",
        "_credit_waiters",
        "_decode",
        "_ended",
        "_inbox",
        "_item_type",
        "_received",
        "_receiver",
        "_sent",
        "_taken",
        "codec",
        "error",
        "started",
        "_stopped",
    )

    #: Whether this side opened the channel.
    opener = False
    #: Whether a peer that drains waits for its end.
    holds_up = False

    def __init__(self, link: BaseLink, channel: int, codec: Codec, item_type: Any = Any) -> None:
        super().__init__()
        self.link = link
        self.channel = channel
        self.codec = codec
        self.over = False
        self.error: RPCError | None = None
        #: When it began, as :func:`trio.current_time` counts.
        self.started = 0.0
        #: The other side gave up a channel that it opened; its handler is being cancelled.
        self._stopped = False
        self._item_type = item_type
        self._decode: Callable[..., Any] | None = None
        self._inbox: deque[MessageReceived] = deque()
        self._ended = False
        self._closed_receive = False
        self._closed_send = False
        self._receiver: trio.lowlevel.Task | None = None
        self._credit_waiters: list[trio.lowlevel.Task] = []
        self._received = 0
        #: Bytes of credit of messages that were taken and not given back yet.
        self._taken = 0
        self._sent = 0

    # -- from the link ---------------------------------------------------------------------------------

    def on_message(self, event: MessageReceived) -> None:
        """A message came."""
        if self._closed_receive:
            self.link.consumed(self.channel, event.cost)
            return
        self._inbox.append(event)
        if self._receiver is not None:
            self.wake_receiver()

    def on_result(self, event: MessageReceived) -> None:
        """A message came that the other side calls the result; where none is due it is one like any other."""
        self.on_message(event)

    def on_end(self) -> None:
        """The other side sends no more."""
        self._ended = True
        self.wake_receiver()

    def on_credit(self) -> None:
        """More may be sent."""
        waiters = self._credit_waiters
        if waiters:
            self._credit_waiters = []
            for task in waiters:
                trio.lowlevel.reschedule(task)

    def on_closed(self, event: ChannelClosed) -> None:
        """The other side closed the channel, which this side opened."""
        raise NotImplementedError(f"{type(self).__name__} does not open channels")  # pragma: no cover

    def on_cancelled(self, event: CancelReceived) -> None:
        """The other side gave the channel up, which it opened."""
        raise NotImplementedError(f"{type(self).__name__} opens channels")  # pragma: no cover

    def on_lost(self, error: RPCError) -> None:
        """The link is gone."""
        self.finish(error)

    def finish(self, error: RPCError | None) -> None:
        """Note that the conversation is over, and wake everybody who waits on it."""
        if self.over:
            return
        self.over = True
        self.error = error
        self._ended = True
        if self._taken:
            self.give_back()
        self.release(failed=error is not None)
        if self._receiver is not None:
            self.wake_receiver()
        if self._credit_waiters:
            self.on_credit()

    def wake_receiver(self) -> None:
        """Let the task that waits in :meth:`receive_item`, if any, look again."""
        task = self._receiver
        if task is not None:
            self._receiver = None
            trio.lowlevel.reschedule(task)

    # -- receiving -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def receive_now(self) -> Any:
        """Return the next item if that takes no checkpoint, else :data:`NOTHING`.

        The usual case in a stream: something is there, and other tasks had their turn lately. Who asks here
        before it awaits :meth:`receive_item` saves a coroutine for each item.
        """
        inbox = self._inbox
        received = self._received + 1
        if not inbox or self._receiver is not None or not received % ITEMS_PER_CHECKPOINT:
            return NOTHING
        self._received = received
        taken = inbox.popleft()
        # Credit is given back in bundles; an empty inbox ends a bundle, so nothing is kept back for long.
        cost = taken.cost
        link = self.link
        held_back = link.held_back + cost
        if self._taken and held_back < link.most_held_back:
            # What take() does within a bundle, without the call.
            self._taken += cost
            link.held_back = held_back
        else:
            self.take(cost)
        if not inbox:
            self.give_back()
        return self.decode_item(taken)

    @trio.lowlevel.enable_ki_protection
    async def receive_item(self) -> Any:
        """Return the next item; see :meth:`duplex.ReceiveChannel.receive`."""
        item = self.receive_now()
        if item is not NOTHING:
            return item
        message = await self.next_message()
        if message is None:
            if self.error is not None:
                raise self.error_for_caller()
            raise trio.EndOfChannel
        return self.decode_item(message)

    @trio.lowlevel.enable_ki_protection
    async def next_message(self) -> MessageReceived | None:
        """Wait for a message and take it; ``None`` at the end."""
        self.link.peer.check_thread()
        if self._receiver is not None:
            await trio.lowlevel.checkpoint()
            raise trio.BusyResourceError("another task is receiving from this channel")
        inbox = self._inbox
        if not inbox or not (self._received + 1) % ITEMS_PER_CHECKPOINT:
            await trio.lowlevel.checkpoint()
        while not inbox:
            self.check_can_receive()
            if self._ended:
                return None
            if self._receiver is not None:
                raise trio.BusyResourceError("another task is receiving from this channel")
            self._receiver = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_receive)
        self._received += 1
        message = inbox.popleft()
        self.take(message.cost)
        self.give_back()
        return message

    def take(self, cost: int) -> None:
        """Note that a message was taken, for :meth:`give_back`."""
        link = self.link
        if link.error is not None:
            return  # nobody is owed anything any more
        if not self._taken:
            link.bundles[self] = None
        self._taken += cost
        link.held_back += cost
        if link.held_back >= link.most_held_back:
            for conversation in list(link.bundles):
                conversation.give_back()

    def give_back(self) -> None:
        """Give credit back for the messages that were taken."""
        taken, self._taken = self._taken, 0
        if taken:
            link = self.link
            link.bundles.pop(self, None)
            link.held_back -= taken
            link.consumed(self.channel, taken)

    def _abort_receive(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def decode_item(self, message: MessageReceived) -> Any:
        """Return the value of a message that was taken."""
        decode = self._decode
        if decode is None:
            decode = self._decode = self.codec.decoder(self._item_type)
        try:
            return decode(message.payload, message.attachments, self)
        except DecodeError as error:
            raise self.bad_item(error) from None

    def set_item_type(self, item_type: Any) -> None:
        """Decode items as this type from now on."""
        self._item_type = item_type
        self._decode = None

    def bad_item(self, error: DecodeError) -> RPCError:
        """Return the error for an item that is not of the expected type."""
        text = str(error)
        return InvalidArgument(f"streamed item {self._received}: {text[:1].lower()}{text[1:]}")

    def error_for_caller(self) -> RPCError:
        """Return the error to raise in the application; asked only if there is one."""
        assert self.error is not None
        return self.error

    def close_receive(self) -> None:
        """Take no more items; those that wait are dropped."""
        self._closed_receive = True
        self.drop_inbox()
        self.wake_receiver()

    def close_ends(self) -> None:
        """Note that the application is done with both directions of a conversation that is over."""
        self._closed_receive = self._closed_send = True

    def check_can_receive(self) -> None:
        """Raise ``ClosedResourceError`` if this end was closed."""
        if self._closed_receive:
            raise trio.ClosedResourceError("this channel was closed for receiving")

    def drop_inbox(self) -> None:
        """Drop what was received and not taken, giving its credit back."""
        inbox = self._inbox
        while inbox:
            self.take(inbox.popleft().cost)
        self.give_back()

    # -- sending ---------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def send_item(self, value: Any) -> None:
        """Send one item; see :meth:`duplex.SendChannel.send`."""
        self._sent += 1
        try:
            if not self._sent % ITEMS_PER_CHECKPOINT:
                await trio.lowlevel.checkpoint()
            if self._stopped:
                await trio.lowlevel.checkpoint()  # which raises Cancelled, but within a shield
                self.check_can_send()
            if self._closed_send or self.over:
                self.check_can_send()
            payload, attachments = self.codec.encode(value, self)
            link = self.link
            connection = link.connection
            if not attachments and connection.send_item(self.channel, payload):
                link.touch()
            elif self.may_send():
                connection.send(self.channel, payload, attachments)
                link.touch()
            else:
                await self.send_payload(payload, attachments)
        except BaseException:
            self._sent -= 1
            if self._fresh is not None:
                self.revoke_exports()
            raise
        if self._fresh is not None:
            self.commit_exports()

    async def send_payload(self, payload: bytes, attachments: Sequence[Buffer], flags: int = 0) -> None:
        """Send an encoded message, waiting for credit as long as it takes: an item, or with RESULT a result."""
        link = self.link
        connection = link.connection
        while not self.may_send(result=bool(flags)):
            self.check_can_send()
            await self.wait_credit()
        self.check_can_send()
        connection.send(self.channel, payload, attachments, flags)
        link.touch()

    def may_send(self, *, result: bool = False) -> bool:
        """Whether there is credit for an item, or for a result."""
        connection = self.link.connection
        link_credit = connection.link_credit if result else connection.stream_credit
        return link_credit > 0 and connection.credit(self.channel) > 0

    async def wait_credit(self) -> None:
        """Wait until more may be sent, or the conversation is over."""
        self.link.peer.check_thread()
        task = trio.lowlevel.current_task()
        waiting = self.link.credit_waiters
        waiting[self] = None
        self._credit_waiters.append(task)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._credit_waiters.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            if not self._credit_waiters:
                waiting.pop(self, None)

    def check_can_send(self) -> None:
        """Raise what :meth:`duplex.SendChannel.send` raises when nothing can be sent."""
        if self._closed_send:
            raise trio.ClosedResourceError("this channel was closed for sending")
        if self._stopped:
            raise trio.BrokenResourceError("the caller has given the call up and takes nothing more")
        if self.over:
            if self.error is not None:
                raise self.error_for_caller()
            raise trio.BrokenResourceError("the other side has ended the call and takes nothing more")

    def end_now(self) -> None:
        """End the sending direction; idempotent."""
        if not self._closed_send:
            self._closed_send = True
            self.on_credit()
            if not self.over and not self._stopped:
                self.link.connection.end(self.channel)
                self.link.touch()

    async def send_queued(self) -> None:
        """Wait until nothing is queued for sending; here nothing ever is."""

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot: credit, items that wait, items that were dropped."""
        connection = self.link.connection
        return ChannelStatistics(
            send_credit=connection.credit(self.channel),
            link_credit=connection.link_credit,
            buffered_items=len(self._inbox),
            buffered_bytes=sum(message.cost for message in self._inbox),
            queued_items=0,
            queued_bytes=0,
            waiting_senders=len(self._credit_waiters),
            sent=self._sent,
            received=self._received,
            dropped=0,
        )

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how the conversation ended."""
        return self.over

    @property
    def queued(self) -> int:
        """How many items were received and not taken."""
        return len(self._inbox)
