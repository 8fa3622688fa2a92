"""What is common to everything that talks on one channel of a link: items in, items out, and the end.

A channel end is driven from two sides. The link calls the ``on_...`` methods, synchronously, as events
arrive. The application awaits :meth:`ChannelEnd.receive_item` and :meth:`ChannelEnd.send_item`. There is
no queue between them other than the inbox, whose size the credit window bounds, and no task.
"""

# Items
# =====
#
# How fast a stream is, is decided by what is done for each item beside encoding it. So whatever can be done once for many items
# is not done for each, and what is left is a few attributes of one object.
#
#  * *Receiving.* Items that came one after the other are one event, and are put into the inbox as runs: lists of up to 32
#    payloads, the last one first, so that ``pop()`` gives the next. Taking the first item of a run takes the run as a whole:
#    it is counted, its credit is noted as owed, and it becomes ``_taking``. The next items are then one ``pop()`` each.
#    Large items are messages of their own in the inbox, or a run would give back credit for much that nobody has taken.
#
#  * *Sending.* ``Connection.begin_items`` gives a run that knows how many bytes may still be sent, and ends with whatever else is
#    done on the connection. While there is room in it, sending an item is encoding it and ``run.add``: whether the channel is
#    open, has credit and has not been cancelled was asked when the run began, and whatever changes one of these ends it.
#
#  * *Fairness.* A task that finds items all the time would never let others run. It yields after 128 items, or when all streams
#    together have been at work for a millisecond in this pass of the loop. Looking at the clock costs as much as
#    an item, so a sender looks after 4, 8, 16, 32, 48 ... items of a run; a receiver, at each run that it takes.
#
#      counter            counts                                     is compared with
#      -------            ------                                     ----------------
#      ``_received``      items taken, with all of the present run   ``_checkpoint_at``: where the next checkpoint is due
#      ``_sent``          items sent                                 ``_yield_at``: likewise; ``_look_at``: at the clock
#      ``_run_began``     ``_sent`` when the run began               how long it is, for the next ``_look_at``
#      ``_taken``         bytes of credit that are owed              nothing: all is given back at once (``_returns.py``)
#
#  * *Credit.* A sender that has none waits in ``CreditShare``, which wakes a few waiters for what has come. What was taken is owed
#    until the inbox is empty, a run ends with nothing behind it, or the link owes a quarter of a window in all.
#
#  * *The end.* ``over`` means that nothing more comes; what has come can still be taken. So a reader asks the inbox first, and
#    learns of the end, or of the error, when that is empty.

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import trio

from duplex._errors import DecodeError, InvalidArgument, RPCError
from duplex._status import StatusCode
from duplex.codec._base import Buffer, Codec
from duplex.engine.channels._host import ChannelHost
from duplex.engine.channels._live_values import CallValues
from duplex.engine.channels._types import ChannelStatistics
from duplex.engine.threads import wait_rescheduled
from duplex.protocol import (
    MESSAGE_OVERHEAD,
    NOTIFY_OVERHEAD,
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ItemRun,
    ItemsReceived,
    MessageReceived,
)

#: A task that streams yields to others once in so many items, and sends no more in one message: a pass of the event
#: loop costs as much as some 20 items (docs/design/performance.md).
ITEMS_PER_CHECKPOINT: Final = 128
#: Items that are taken without a look at the clock.
_ITEMS_TAKEN: Final = 32
#: Items that are sent so, at the beginning of a run and later.
_ITEMS_FIRST: Final = 4
_ITEMS_SENT: Final = 16
#: What :meth:`ChannelEnd.receive_now` returns instead of an item.
NOTHING: Final = object()
#: Messages, and between them runs of items, the last of each first.
Inbox: TypeAlias = deque[MessageReceived | list[bytes]]
#: That of a channel end to which nothing was sent yet, beside the arguments in ``OPEN``. Nothing can be put into it.
_NOTHING_CAME: Final = cast("Inbox", ())
#: Those who wait for credit on a channel end on which nobody has. Nobody can be put into it.
_NOBODY: Final = cast("list[trio.lowlevel.Task]", ())
#: A run of which nothing is left, and one that takes nothing.
_NOTHING_TAKEN: Final[list[bytes]] = []
_NO_RUN: Final = ItemRun(0, 0, 0, ())


def _items(entry: MessageReceived | list[bytes]) -> int:
    """Return how many items there are in an entry of an inbox."""
    return len(entry) if isinstance(entry, list) else 1


def _cost(run: list[bytes]) -> int:
    """Return the bytes of credit that a run of items cost."""
    return sum(map(len, run)) + MESSAGE_OVERHEAD * len(run)


def message_bytes(payload: bytes, attachments: Sequence[Buffer]) -> int:
    """Return the bytes of credit that a message costs."""
    size = len(payload) + MESSAGE_OVERHEAD
    return size + sum([memoryview(buffer).nbytes for buffer in attachments]) if attachments else size


def opening_bytes(event: ChannelOpened) -> int:
    """Return the bytes of credit that the first message of a call costs, or would cost if it were no notification."""
    return event.cost - NOTIFY_OVERHEAD + MESSAGE_OVERHEAD if event.notify else event.cost


# Large because both directions of a channel are one object: an item passes a few attributes of it and no other object, which
# is what streams are measured by, and each direction ends the other. Of its methods nine are the link's (see ChannelUser).
class ChannelEnd(CallValues):
    """One channel of a link, seen from this side: a :class:`duplex.engine.channels._user.ChannelUser`.

    Attributes:
        link: the link that it is on.
        channel: its number.
        codec: what its payloads are encoded in.
        over: both sides are done with it; nothing more comes.
        error: why it failed; ``None`` while it goes on, and if it ended well.
    """

    __slots__ = (
        "_checkpoint_at",
        "_closed_receive",
        "_closed_send",
        "_credit_waiters",
        "_decode",
        "_ended",
        "_inbox",
        "_item_type",
        "_look_at",
        "_received",
        "_receiver",
        "_run_began",
        "_taking",
        "_sending",
        "_sent",
        "_stopped",
        "_taken",
        "_yield_at",
        "bytes_in",
        "bytes_out",
        "codec",
        "error",
        "started",
    )

    link: ChannelHost  # type: ignore[mutable-override]  # set once, in __init__
    #: Whether this side opened the channel.
    opener = False
    #: Whether a peer that drains waits for its end.
    delays_drain = False
    #: Whether it is a value in a message of a call, and no call itself.
    is_value = False
    #: Whether it goes on when the link is gone.
    outlives_link = False

    def __init__(self, link: ChannelHost, channel: int, codec: Codec, item_type: Any = Any) -> None:
        CallValues.__init__(self)  # super() would cost each call as much as twenty of these lines
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
        #: What came.
        self._inbox = _NOTHING_CAME
        #: What is left of the run whose items are being taken.
        self._taking = _NOTHING_TAKEN
        self._ended = False
        self._closed_receive = False
        self._closed_send = False
        self._receiver: trio.lowlevel.Task | None = None
        self._credit_waiters = _NOBODY
        #: Messages that were taken, with all of the present run, and how many there may be before the next checkpoint.
        self._received = 0
        self._checkpoint_at = ITEMS_PER_CHECKPOINT
        #: Bytes of credit of messages that were taken and not given back yet.
        self._taken = 0
        #: The run of items that are being sent.
        self._sending = _NO_RUN
        #: How many were sent when it began, and when to look at the clock. Set with the first run.
        self._run_began: int
        self._look_at: int
        #: Items that were sent, and how many there may be before the next checkpoint.
        self._sent = 0
        self._yield_at = ITEMS_PER_CHECKPOINT
        #: What came and went beside the arguments in ``OPEN`` and the result in ``CLOSE``, in bytes of credit; without the
        #: present run.
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def method(self) -> str:
        """``service.method``; empty if it is no call."""
        return ""

    @property
    def deadline(self) -> float | None:
        """When it has to end, as :func:`trio.current_time` counts; ``None`` if never, or if this side does not keep it."""
        return None

    # -- from the link ---------------------------------------------------------------------------------

    def on_message(self, event: MessageReceived) -> None:
        """A message came."""
        self.bytes_in += event.cost
        if self._closed_receive:
            self.link.consumed(self.channel, event.cost)
            return
        self.own_inbox().append(event)
        if self._receiver is not None:
            self.wake_receiver()

    def own_inbox(self) -> Inbox:
        """Return the inbox to put something into. Most calls never have one."""
        if self._inbox is _NOTHING_CAME:
            self._inbox = deque()
        return self._inbox

    def on_items(self, event: ItemsReceived) -> None:
        """Items came, one after the other."""
        self.bytes_in += event.cost
        if self._closed_receive:
            self.link.consumed(self.channel, event.cost)
            return
        inbox = self.own_inbox()
        longest = self.link.returns.longest_run
        payloads = event.payloads
        for start in range(0, len(payloads), _ITEMS_TAKEN):
            run = payloads[start : start + _ITEMS_TAKEN][::-1]
            if _cost(run) <= longest:
                inbox.append(run)
            else:
                inbox.extend(self._message(payload) for payload in reversed(run))
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
            self._credit_waiters = _NOBODY
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

    def cut(self, status: StatusCode, message: str, *, resumable: bool = False) -> None:
        """See :meth:`duplex.engine.channels._user.ChannelUser.cut`: this is no call that is served."""

    def finish(self, error: RPCError | None) -> None:
        """Note that the channel end is over, and wake everybody who waits on it."""
        if self.over:
            return
        self.over = True
        self.error = error
        self._ended = True
        if self._taken:
            self.give_back()
        if self._exports is not None or self._children is not None:
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
        run = self._taking
        if not run:
            if not self._inbox or self._is_checkpoint_due():
                return NOTHING
            message = self._take_next()
            if message is not None:
                return self.decode_item(message)
            run = self._taking
        payload = run.pop()
        if not run and not self._inbox:
            self.give_back()
        decode = self._decode or self._decoder()
        try:
            return decode(payload, (), self)
        except DecodeError as error:
            raise self.bad_item(error) from None

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
        self.link.engine.check_thread()
        if self._receiver is not None:
            await trio.lowlevel.checkpoint()
            raise trio.BusyResourceError("another task is receiving from this channel")
        if not self._taking:
            if not self._inbox or self._is_checkpoint_due():
                self.give_back()
                await self._let_others_run()
                self._checkpoint_at = self._received + ITEMS_PER_CHECKPOINT
            while not self._inbox and not self._taking:
                self.check_can_receive()
                if self._ended:
                    return None
                if self._receiver is not None:
                    raise trio.BusyResourceError("another task is receiving from this channel")
                self._receiver = trio.lowlevel.current_task()
                await wait_rescheduled(self._abort_receive)
        message = None if self._taking else self._take_next()
        if message is None:
            message = self._message(self._taking.pop())
        if not self._taking:
            self.give_back()
        return message

    def _is_checkpoint_due(self) -> bool:
        return (
            self._received + _items(self._inbox[0]) > self._checkpoint_at
            or self.link.engine.flusher.is_pass_long()
        )

    async def _let_others_run(self) -> None:
        await trio.lowlevel.checkpoint()
        self.link.engine.flusher.is_pass_long()  # from now on

    def _message(self, payload: bytes) -> MessageReceived:
        return MessageReceived(self.channel, payload, (), len(payload) + MESSAGE_OVERHEAD)

    def _take_next(self) -> MessageReceived | None:
        """Take the next message, or begin the run that is next."""
        taken = self._inbox.popleft()
        if isinstance(taken, list):
            # Taken as a whole: credit that goes back a little early is less than the sender may exceed it by.
            self._taking = taken
            self._received += len(taken)
            self.take(_cost(taken))
            return None
        self._received += 1
        self.take(taken.cost)
        if not self._inbox:
            self.give_back()
        return taken

    def take(self, cost: int) -> None:
        """Note that a message was taken, for :meth:`give_back`."""
        link = self.link
        if link.error is not None:
            return  # nobody is owed anything any more
        returns = link.returns
        if not self._taken:
            returns.pending[self] = None
        self._taken += cost
        returns.owed += cost
        if returns.owed >= returns.most_owed:
            returns.give_all_back()

    def give_back(self) -> None:
        """Give credit back for the messages that were taken."""
        taken, self._taken = self._taken, 0
        if taken:
            link = self.link
            returns = link.returns
            returns.pending.pop(self, None)
            returns.owed -= taken
            link.consumed(self.channel, taken)

    def _abort_receive(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def decode_item(self, message: MessageReceived) -> Any:
        """Return the value of a message that was taken."""
        decode = self._decode or self._decoder()
        try:
            return decode(message.payload, message.attachments, self)
        except DecodeError as error:
            raise self.bad_item(error) from None

    def _decoder(self) -> Callable[..., Any]:
        self._decode = self.codec.decoder(self._item_type)
        return self._decode

    def set_item_type(self, item_type: Any) -> None:
        """Decode items as this type from now on."""
        self._item_type = item_type
        self._decode = None

    def bad_item(self, error: DecodeError) -> RPCError:
        """Return the error for an item that is not of the expected type."""
        text = str(error)
        return InvalidArgument(
            f"streamed item {self._received - len(self._taking)}: {text[:1].lower()}{text[1:]}"
        )

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
        """Note that the application is done with both directions of a channel end that is over."""
        self._closed_receive = self._closed_send = True

    def check_can_receive(self) -> None:
        """Raise ``ClosedResourceError`` if this end was closed."""
        if self._closed_receive:
            raise trio.ClosedResourceError("this channel was closed for receiving")

    def drop_inbox(self) -> None:
        """Drop what was received and not taken, giving its credit back."""
        self._received -= len(self._taking)
        self._taking = _NOTHING_TAKEN
        while self._inbox:
            entry = self._inbox.popleft()
            self.take(_cost(entry) if isinstance(entry, list) else entry.cost)
        self.give_back()

    # -- sending ---------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def send_now(self, value: Any) -> Awaitable[None] | None:
        """Send one item and return ``None`` if nothing has to be waited for; if not, return what sends it and has to
        be awaited.

        The usual case in a stream. Who asks here instead of awaiting :meth:`send_item` saves a coroutine for each
        item. Whether the stream may go on is not asked: whatever ends it ends the run too.
        """
        run = self._sending
        if run.room <= 0:
            return self._send_slowly(value)
        try:
            payload, attachments = self.codec.encode(value, self)
        except BaseException:
            self.revoke_exports()
            raise
        if self._fresh is not None:
            # What is passed in it must not depend on whether the caller comes to await what is returned.
            self.revoke_exports()
            return self._send_slowly(value)
        if attachments or not run.add(payload):
            return self._send_encoded(payload, attachments)
        self._sent = sent = self._sent + 1
        if sent >= self._look_at:
            self._look(sent)
        return None

    def _look(self, sent: int) -> None:
        """End the run if it is long enough, in items or in time."""
        if sent < self._yield_at and not self.link.engine.flusher.is_pass_long():
            self._look_at = min(sent + min(sent - self._run_began, _ITEMS_SENT), self._yield_at)
        else:
            self.end_run()
            self._yield_at = sent
            self.link.touch()

    def end_run(self) -> None:
        """Send no more items without another look at whether they may be sent."""
        self.bytes_out += self._sending.cost
        self._sending = _NO_RUN

    @trio.lowlevel.enable_ki_protection
    async def send_item(self, value: Any) -> None:
        """Send one item; see :meth:`duplex.SendChannel.send`."""
        rest = self.send_now(value)
        if rest is not None:
            await rest

    @trio.lowlevel.enable_ki_protection
    async def _send_slowly(self, value: Any) -> None:
        """Send an item, whatever has to be waited for."""
        self.link.engine.check_thread()
        if self.link.engine.flusher.is_pass_long() or self._sent >= self._yield_at:
            await self._let_others_run()
            self._yield_at = self._sent + ITEMS_PER_CHECKPOINT
        if self._stopped:
            await trio.lowlevel.checkpoint()  # which raises Cancelled, but within a shield
        if self._stopped or self._closed_send or self.over:
            self.check_can_send()
        try:
            payload, attachments = self.codec.encode(value, self)
        except BaseException:
            self.revoke_exports()
            raise
        await self._send_encoded(payload, attachments)

    @trio.lowlevel.enable_ki_protection
    async def _send_encoded(self, payload: bytes, attachments: Sequence[Buffer]) -> None:
        """Send an item that was encoded, and begin a run of those that follow."""
        link = self.link
        connection = link.connection
        try:
            plain = not attachments and self._fresh is None
            run = connection.begin_items(self.channel) if plain else None
            if run is not None and run.add(payload):
                link.touch()
                self.bytes_out += self._sending.cost
                self._sending = run
                self._run_began = self._sent
                self._look_at = min(self._sent + _ITEMS_FIRST, self._yield_at)
            elif self.may_send():
                connection.send(self.channel, payload, attachments)
                self.bytes_out += message_bytes(payload, attachments)
                link.touch()
            else:
                await self.send_payload(payload, attachments)
        except BaseException:
            if self._fresh is not None:
                self.revoke_exports()
            raise
        self._sent += 1
        if self._fresh is not None:
            self.commit_exports()

    async def send_payload(self, payload: bytes, attachments: Sequence[Buffer], flags: int = 0) -> None:
        """Send an encoded message, waiting for credit as long as it takes: an item, or with RESULT a result."""
        link = self.link
        connection = link.connection
        while not self.may_send(result=bool(flags)):
            self.check_can_send()
            await self.wait_credit(result=bool(flags))
        self.check_can_send()
        connection.send(self.channel, payload, attachments, flags)
        self.bytes_out += message_bytes(payload, attachments)
        link.touch()

    def may_send(self, *, result: bool = False) -> bool:
        """Whether there is credit for an item, or for a result."""
        connection = self.link.connection
        if result:
            return connection.has_credit(self.channel)
        return connection.stream_credit > 0 and connection.credit(self.channel) > 0

    async def wait_credit(self, *, result: bool = False) -> None:
        """Wait until more may be sent, even if only a result, or the channel end is over."""
        peer = self.link.engine
        peer.check_thread()
        if peer.counting is not None:
            peer.counting.waits(self)
        task = trio.lowlevel.current_task()
        waiting = self.link.credit.waiters
        waiting[self] = result or waiting.get(self, False)
        if self._credit_waiters is _NOBODY:
            self._credit_waiters = []
        self._credit_waiters.append(task)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._credit_waiters.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await wait_rescheduled(abort)
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
            if not self.over and not self._stopped and self.link.connection.is_open:
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
            buffered_items=self.queued,
            buffered_bytes=_cost(self._taking)
            + sum(_cost(entry) if isinstance(entry, list) else entry.cost for entry in self._inbox),
            queued_items=0,
            queued_bytes=0,
            waiting_senders=len(self._credit_waiters),
            sent=self._sent,
            received=self._received - len(self._taking),
            dropped=0,
        )

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how the channel end ended."""
        return self.over

    @property
    def queued(self) -> int:
        """How many items were received and not taken."""
        return len(self._taking) + sum(map(_items, self._inbox))

    @property
    def waiting_senders(self) -> int:
        """How many tasks wait for credit."""
        return len(self._credit_waiters)
