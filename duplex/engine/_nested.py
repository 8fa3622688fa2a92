"""Channels that are themselves values, and the ends that applications hold of any conversation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, final

import trio

from duplex._errors import CallCancelled, DuplexError, RPCError, error_for_status
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._conversation import Conversation
from duplex.engine._types import Channel, ReceiveChannel, SendChannel
from duplex.protocol import CancelReceived, ChannelClosed, MessageReceived

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink

logger = logging.getLogger("duplex")


@final
class ReceiveEnd(ReceiveChannel[Any]):
    """The receiving end of a conversation."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        return await self._conversation.receive_item()

    async def aclose(self) -> None:
        """Take no more items; the other side may send on until it notices. Idempotent."""
        self._conversation.close_receive()
        await trio.lowlevel.checkpoint()

    def _set_type(self, item_type: Any) -> None:
        self._conversation.set_item_type(item_type)


@final
class SendEnd(SendChannel[Any]):
    """The sending end of a conversation."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        await self._conversation.send_item(value)

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        self._conversation.end_now()

    async def aclose(self) -> None:
        """The same as :meth:`send_eof`."""
        self._conversation.end_now()
        await trio.lowlevel.checkpoint()

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
        return await self._conversation.receive_item()

    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        await self._conversation.send_item(value)

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        self._conversation.end_now()

    async def aclose(self) -> None:
        """End both directions. Idempotent."""
        self._conversation.end_now()
        self._conversation.close_receive()
        await trio.lowlevel.checkpoint()


@final
class NestedChannel(Conversation):
    """A channel that is a value in a message of another conversation, its parent."""

    __slots__ = ("_is_over", "_opener", "_pump_scope", "parent")

    def __init__(self, link: BaseLink, channel: int, codec: Codec, parent: int, *, opener: bool) -> None:
        super().__init__(link, channel, codec)
        self.parent = parent
        self._opener = opener
        self._pump_scope: trio.CancelScope | None = None
        self._is_over = trio.Event()

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
            self._close_if_done()

    def _close_if_done(self) -> None:
        """The importing side uses one direction only, so the channel is over when that one is."""
        if not self._opener and not self.over and not self._inbox:
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
        if self._pump_scope is not None:
            self._pump_scope.cancel()
        self._is_over.set()

    async def wait_over(self) -> None:
        """Return once the channel is over."""
        await self._is_over.wait()

    # -- pumps: between a local trio channel and the wire ----------------------------------------------

    async def pump_out(self, source: trio.abc.ReceiveChannel[Any]) -> None:
        """Send what comes from a local channel; the task that does it."""
        self._pump_scope = trio.CancelScope()
        with self._pump_scope:
            if self.over:
                self._pump_scope.cancel()
            try:
                async for item in source:
                    await self.send_item(item)
            except (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._give_up(error)
            else:
                self.end_now()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(source)

    async def pump_in(self, sink: trio.abc.SendChannel[Any]) -> None:
        """Hand what comes on the wire to a local channel; the task that does it."""
        try:
            async for item in ReceiveEnd(self):
                await sink.send(item)
        except (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._give_up(error)
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(sink)

    def _give_up(self, error: Exception) -> None:
        if not self.over:
            logger.warning("a channel passed to %s was cut short: %s", self.link.peer_name, error)
            self.link.cancel_channel(self.channel, str(error))
            self.finish(CallCancelled(str(error)))
