"""Channels that are themselves values, and the ends that applications hold of any conversation."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, final

import trio

from duplex._errors import CallCancelled, DuplexError, RPCError, error_for_status
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._conversation import NOTHING, Conversation
from duplex.engine._live import CallValues
from duplex.engine._types import Channel, ChannelStatistics, ReceiveChannel, SendChannel
from duplex.protocol import CancelReceived, ChannelClosed, MessageReceived

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink

logger = logging.getLogger("duplex")


async def close_local(channel: Any) -> None:
    """Close a local channel that was passed to another peer, at once and whatever it says."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        try:
            await channel.aclose()
        except Exception:
            logger.exception("closing a channel that was passed to another peer failed")


@final
class ReceiveEnd(ReceiveChannel[Any]):
    """The receiving end of a conversation."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        item = self._conversation.receive_now()
        return await self._conversation.receive_item() if item is NOTHING else item

    async def aclose(self) -> None:
        """Take no more items; the other side may send on until it notices. Idempotent."""
        self._conversation.close_receive()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`ReceiveChannel`."""
        return self._conversation.statistics()

    def _set_type(self, item_type: Any) -> None:
        self._conversation.set_item_type(item_type)


@final
class SendEnd(SendChannel[Any]):
    """The sending end of a conversation."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        if (rest := self._conversation.send_now(value)) is not None:
            await rest

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        await self._conversation.send_queued()
        self._conversation.end_now()

    async def aclose(self) -> None:
        """The same as :meth:`send_eof`."""
        self._conversation.end_now()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`SendChannel`."""
        return self._conversation.statistics()

    def _set_type(self, item_type: Any) -> None:
        """What is sent has the type that the other side declares."""


@final
class BothEnds(Channel[Any, Any]):
    """Both ends of a conversation: a handler's parameter of type ``Channel``."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        item = self._conversation.receive_now()
        return await self._conversation.receive_item() if item is NOTHING else item

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        if (rest := self._conversation.send_now(value)) is not None:
            await rest

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        await self._conversation.send_queued()
        self._conversation.end_now()

    async def aclose(self) -> None:
        """End both directions. Idempotent."""
        self._conversation.end_now()
        self._conversation.close_receive()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`SendChannel`."""
        return self._conversation.statistics()


@final
class NestedChannel(Conversation):
    """A channel that is a value in a message of another conversation, its parent."""

    __slots__ = ("_forwards", "_is_over", "_is_pumped", "_opener", "_pump_scope", "_pumps_out", "_root")

    def __init__(self, link: BaseLink, channel: int, codec: Codec, root: CallValues, *, opener: bool) -> None:
        super().__init__(link, channel, codec)
        self._root = root
        self._opener = opener
        self._pump_scope: trio.CancelScope | None = None
        self._pumps_out = False
        self._forwards = False
        self._is_pumped = trio.Event()
        self._is_over = trio.Event()

    @property
    def root(self) -> CallValues:
        """The call that carried the channel, be it in a message on another nested channel."""
        return self._root

    @property
    def opener(self) -> bool:  # type: ignore[override]
        """Whether this side passed the value."""
        return self._opener

    def sending_end(self) -> SendEnd:
        """Return the end to send with."""
        return SendEnd(self)

    def receiving_end(self) -> ReceiveEnd:
        """Return the end to receive with; items cannot be sent on it."""
        return ReceiveEnd(self)

    async def next_message(self) -> MessageReceived | None:
        """See :meth:`Conversation.next_message`; the importing side closes the channel once it is drained."""
        message = await super().next_message()
        if message is None:
            self._close_if_done()
        return message

    def close_receive(self) -> None:
        """See :meth:`Conversation.close_receive`."""
        super().close_receive()
        self._ended = True
        self._close_if_done()

    def end_now(self) -> None:
        """See :meth:`Conversation.end_now`."""
        if self._opener or self.over:
            super().end_now()
        else:
            self._closed_send = True
            self.end_run()
            self._close_if_done()

    def _close_if_done(self) -> None:
        """The importing side uses one direction only, so the channel is over when that one is."""
        if not self._opener and not self.over and not self.queued:
            self.link.close_channel(self.channel, StatusCode.OK)
            self.finish(None)

    # -- from the link ---------------------------------------------------------------------------------

    def on_closed(self, event: ChannelClosed) -> None:
        """The importing side is done with the channel."""
        self.finish(None if event.status == 0 else error_for_status(event.status, event.message))

    def on_cancelled(self, event: CancelReceived) -> None:
        """The passing side gave the channel up."""
        if not event.closed:
            self.link.close_channel(self.channel, StatusCode.CANCELLED)
        self.link.forget(self.channel)
        self.finish(CallCancelled(event.reason or "the other side gave the channel up"))

    def release_from_parent(self, *, failed: bool) -> None:
        """The parent is over."""
        if self.over:
            return
        if self._opener:
            self.link.cancel_channel(self.channel, "the call that carried the channel is over")
            self.finish(CallCancelled("the call that carried the channel is over"))
        else:
            self.link.close_channel(self.channel, StatusCode.CANCELLED if failed else StatusCode.OK)
            self.finish(CallCancelled("the call that carried the channel is over") if failed else None)

    def finish(self, error: RPCError | None) -> None:
        """See :meth:`Conversation.finish`."""
        super().finish(error)
        self.link.drop_unclaimed(self.channel)
        if self._pump_scope is not None and self._is_pump_done:
            self._pump_scope.cancel()
        self._is_over.set()
        if not self._forwards or self._is_pumped.is_set():
            self._root.disown(self)

    @property
    def _is_pump_done(self) -> bool:
        """Whether a pump has nothing more to do once the channel is over. One that hands on what came goes on after a
        good end, however late it begins: all may have come, with the end, before it did."""
        return self._pumps_out or self.error is not None

    async def wait_over(self) -> None:
        """Return once the channel is over."""
        await self._is_over.wait()

    def check_can_send(self) -> None:
        """See :meth:`Conversation.check_can_send`; a reader that went away is told in trio's words."""
        if isinstance(self.error, CallCancelled) and not self._closed_send:
            raise trio.BrokenResourceError(self.error.message)
        super().check_can_send()

    def revoke(self) -> None:
        """The value was not passed after all."""
        if not self.over:
            self.link.cancel_channel(self.channel, "the channel was not passed after all")
            self.finish(CallCancelled("the channel was not passed after all"))

    async def wait_forwarded(self) -> None:
        """Return once everything was handed on, if the local end is a channel of another call."""
        if self._forwards:
            await self._is_pumped.wait()

    # -- pumps: between a local trio channel and the wire ----------------------------------------------

    def start_pump(self, local: Any) -> None:
        """Begin to move items between the wire and the local channel that was passed."""
        self._pumps_out = isinstance(local, trio.abc.ReceiveChannel)
        self._forwards = isinstance(local, SendChannel)
        self.link.peer.spawn(self.pump_out if self._pumps_out else self.pump_in, local)

    async def pump_out(self, source: trio.abc.ReceiveChannel[Any]) -> None:
        """Send what comes from a local channel; the task that does it. Ends when the channel is over."""
        await self._pump(self._send_all, source)

    async def pump_in(self, sink: trio.abc.SendChannel[Any]) -> None:
        """Hand what comes on the wire to a local channel; the task that does it.

        Goes on after the channel ended well, until everything was handed over.
        """
        await self._pump(self._receive_all, sink)

    async def _send_all(self, source: trio.abc.ReceiveChannel[Any]) -> None:
        async for item in source:
            await self.send_item(item)
        self.end_now()

    async def _receive_all(self, sink: trio.abc.SendChannel[Any]) -> None:
        async for item in ReceiveEnd(self):
            await sink.send(item)

    async def _pump(self, step: Callable[[Any], Awaitable[None]], local: Any) -> None:
        self._pump_scope = trio.CancelScope()
        if self.over and self._is_pump_done:
            self._pump_scope.cancel()
        try:
            with self._pump_scope:
                try:
                    await step(local)
                except (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self._give_up(str(error) or type(error).__name__)
                except Exception as error:
                    # The application's own channel failed; that must cost its call and nothing else.
                    logger.exception("a channel passed to %s failed", self.link.peer_name)
                    self._give_up(f"the channel failed at its origin: {type(error).__name__}")
        finally:
            self.drop_inbox()
            await close_local(local)
            self._is_pumped.set()
            if self.over:
                self._root.disown(self)

    def _give_up(self, reason: str) -> None:
        if not self.over:
            logger.warning("a channel passed to %s was cut short: %s", self.link.peer_name, reason)
            self.link.cancel_channel(self.channel, reason)
            self.finish(CallCancelled(reason))
