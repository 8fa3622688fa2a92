"""Channels that are themselves values, and what applications hold of any channel."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from duplex._errors import CallCancelled, DuplexError, ResourceExhausted, RPCError, error_for_status
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._failure import is_interrupt
from duplex.engine.channels._channel_end import NOTHING, ChannelEnd
from duplex.engine.channels._host import ChannelHost
from duplex.engine.channels._live_values import CallValues
from duplex.engine.channels._types import Channel, ChannelStatistics, ReceiveChannel, SendChannel
from duplex.protocol import CancelReceived, ChannelClosed, MessageReceived

logger = logging.getLogger("duplex")


async def close_local(channel: Any) -> None:
    """Close a local channel that was passed to another peer, at once and whatever it says."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        try:
            await channel.aclose()
        except BaseException as error:
            if is_interrupt(error):
                raise
            logger.exception("closing a channel that was passed to another peer failed")


@final
class ReceiveEnd(ReceiveChannel[Any]):
    """The receiving direction of a channel."""

    __slots__ = ("__weakref__", "_channel_end")

    def __init__(self, channel_end: ChannelEnd) -> None:
        self._channel_end = channel_end

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        item = self._channel_end.receive_now()
        return await self._channel_end.receive_item() if item is NOTHING else item

    async def aclose(self) -> None:
        """Take no more items; the other side may send on until it notices. Idempotent."""
        self._channel_end.close_receive()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`ReceiveChannel`."""
        return self._channel_end.statistics()

    def _set_type(self, item_type: Any) -> None:
        self._channel_end.set_item_type(item_type)


@final
class SendEnd(SendChannel[Any]):
    """The sending direction of a channel."""

    __slots__ = ("__weakref__", "_channel_end")

    def __init__(self, channel_end: ChannelEnd) -> None:
        self._channel_end = channel_end

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        if (rest := self._channel_end.send_now(value)) is not None:
            await rest

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        await self._channel_end.send_queued()
        self._channel_end.end_now()

    async def aclose(self) -> None:
        """The same as :meth:`send_eof`."""
        self._channel_end.end_now()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`SendChannel`."""
        return self._channel_end.statistics()

    def _set_type(self, item_type: Any) -> None:
        """What is sent has the type that the other side declares."""

    def break_off(self, reason: str) -> None:
        """End the channel as one that was cut short: a reader must not take what came for all. Idempotent."""
        channel_end = self._channel_end
        if not channel_end.over:
            channel_end.link.channels.close(channel_end.channel, StatusCode.CANCELLED, message=reason)
            channel_end.finish(CallCancelled(reason))


@final
class BothEnds(Channel[Any, Any]):
    """Both directions of a channel: a handler's parameter of type ``Channel``."""

    __slots__ = ("_channel_end",)

    def __init__(self, channel_end: ChannelEnd) -> None:
        self._channel_end = channel_end

    async def receive(self) -> Any:
        """See :class:`ReceiveChannel`."""
        item = self._channel_end.receive_now()
        return await self._channel_end.receive_item() if item is NOTHING else item

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: Any) -> None:
        """See :class:`SendChannel`."""
        if (rest := self._channel_end.send_now(value)) is not None:
            await rest

    async def send_eof(self) -> None:
        """See :class:`SendChannel`."""
        await trio.lowlevel.checkpoint()
        await self._channel_end.send_queued()
        self._channel_end.end_now()

    async def aclose(self) -> None:
        """End both directions. Idempotent."""
        self._channel_end.end_now()
        self._channel_end.close_receive()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`SendChannel`."""
        return self._channel_end.statistics()


# Large because such a channel has three ends to agree on: the other side's, that of the local channel which is moved from or
# to, and that of the call that carried it. Most methods are one of these ends and a few lines.
@final
class NestedChannel(ChannelEnd):
    """A channel that is a value in a message of another channel, its parent."""

    __slots__ = (
        "_claimed",
        "_end",
        "_forwards",
        "_is_abandoned",
        "_is_over",
        "_is_pumped",
        "_opener",
        "_pump_scope",
        "_pumps_out",
        "_receives",
        "_root",
    )

    is_value = True

    def __init__(
        self,
        link: ChannelHost,
        channel: int,
        codec: Codec,
        root: CallValues,
        *,
        opener: bool,
        ended: bool = False,
    ) -> None:
        super().__init__(link, channel, codec)
        self._root = root
        self._opener = opener
        self._ended = ended
        #: Whether this side is the one that receives, if the other one opened the channel.
        self._receives = not opener and not ended
        #: Whether a value named the channel, if the other side opened it.
        self._claimed = False
        #: The end that somebody has, as long as he has it.
        self._end: weakref.ref[Any] | None = None
        self._pump_scope: trio.CancelScope | None = None
        self._pumps_out = False
        self._forwards = False
        #: Nobody at this side wants any more what is to be handed on.
        self._is_abandoned = False
        self._is_pumped = trio.Event()
        self._is_over = trio.Event()

    @property
    def root(self) -> CallValues:
        """The call that carried the channel, also if in a message on another nested channel."""
        return self._root

    @property
    def opener(self) -> bool:  # type: ignore[override]
        """Whether this side passed the value."""
        return self._opener

    def note_named(self) -> bool:
        """Note that a value names the channel, and return whether that is the first one, as it must be."""
        if self._opener or self._claimed:
            return False
        self._claimed = True
        if self.over:
            self._root.children.late_bytes -= self.statistics().buffered_bytes
            self._root.disown(self)
        return True

    def sending_end(self) -> SendEnd:
        """Return the end to send with. If it is dropped, the channel is closed some time later."""
        end = SendEnd(self)
        self._end = self.link.engine.dropped.watch(self, end)
        return end

    def receiving_end(self) -> ReceiveEnd:
        """Return the end to receive with; items cannot be sent on it. If it is dropped, the channel is closed some time
        later."""
        end = ReceiveEnd(self)
        self._end = self.link.engine.dropped.watch(self, end)
        return end

    def close_dropped(self) -> None:
        """Close the end that was dropped."""
        if self._receives:
            self.close_receive()
        else:
            self.end_now()

    async def next_message(self) -> MessageReceived | None:
        """See :meth:`ChannelEnd.next_message`; the importing side closes the channel once it is drained."""
        message = await super().next_message()
        if message is None:
            self._close_if_done()
        return message

    def close_receive(self) -> None:
        """See :meth:`ChannelEnd.close_receive`."""
        super().close_receive()
        self._ended = True
        self._close_if_done()

    def end_now(self) -> None:
        """See :meth:`ChannelEnd.end_now`."""
        if self._opener or self.over:
            super().end_now()
        else:
            self._closed_send = True
            self.end_run()
            self._close_if_done()

    def _close_if_done(self) -> None:
        """The importing side uses one direction only, so the channel is over when that one is."""
        if not self._opener and not self.over and not self.queued:
            self.link.channels.close(self.channel, StatusCode.OK)
            self.finish(None)

    # -- from the link ---------------------------------------------------------------------------------

    def on_closed(self, event: ChannelClosed) -> None:
        """The importing side is done with the channel."""
        answer = self._root.close_received
        if event.status and event.message and (answer is None or not answer.status):  # or the call tells it
            logger.warning("a channel passed to %s was cut short: %s", self.link.peer_name, event.message)
        message = event.message or "the call that the channel was passed to has failed"
        self.finish(None if event.status == 0 else error_for_status(event.status, message))

    def on_cancelled(self, event: CancelReceived) -> None:
        """The passing side gave the channel up."""
        if not event.closed:
            self.link.channels.close(self.channel, StatusCode.CANCELLED)
        self.link.channels.forget(self.channel)
        self.finish(CallCancelled(event.reason or "the other side gave the channel up"))

    def release_from_parent(self, *, failed: bool) -> None:
        """The parent is over."""
        if self.over:
            return
        error = CallCancelled("the call that carried the channel is over")
        if self._opener:
            answer = self._root.close_received
            if answer is None:
                self._is_abandoned = True
            elif not answer.status and not self._pumps_out:
                logger.warning(
                    "%s ended a call before a channel that was passed with it: what it sends on that is dropped",
                    self.link.peer_name,
                )
            self.link.channels.cancel(self.channel, error.message)
            self.finish(error)
        else:
            self.link.channels.close(self.channel, StatusCode.CANCELLED if failed else StatusCode.OK)
            # What comes on it from now on is dropped, so a reader must not take it for complete.
            self.finish(error if failed or self._receives else None)

    def finish(self, error: RPCError | None) -> None:
        """See :meth:`ChannelEnd.finish`."""
        if self._receives and self._ended:
            error = None  # all has come, and that it is all: what ends the channel now takes nothing away
        super().finish(error)
        self._end = None
        if self._pump_scope is not None and self._is_pump_done:
            self._pump_scope.cancel()
        self._is_over.set()
        if self._opener:
            self._disown_if_pumped()
        elif self._claimed:
            self._root.disown(self)
        else:
            self._stay_unclaimed()

    def _disown_if_pumped(self) -> None:
        """Let the call forget the channel, but not while something is still to be handed on to another call."""
        if not self._forwards or self._is_pumped.is_set():
            self._root.disown(self)

    def _stay_unclaimed(self) -> None:
        """The value that names the channel has not been decoded, if it came at all. What has come on the channel waits
        for that, within the bounds of what one channel may hold: credit does not bound channels that are over."""
        children = self._root.children
        limits = self.link.engine.limits
        size = self.statistics().buffered_bytes
        if len(children) > limits.max_channels:
            self._root.disown(self)
        elif children.late_bytes + size > limits.channel_window:
            self.drop_inbox()
            self.error = ResourceExhausted(
                f"{size} bytes of items were dropped, because their channel had ended before it was received, and "
                f"such channels may hold {limits.channel_window} bytes (Limits.channel_window) in one call"
            )
        else:
            children.late_bytes += size

    async def wait_over(self) -> None:
        """Return once the channel is over."""
        await self._is_over.wait()

    def check_can_send(self) -> None:
        """See :meth:`ChannelEnd.check_can_send`; a reader that went away is told in trio's words."""
        if isinstance(self.error, CallCancelled) and not self._closed_send:
            raise trio.BrokenResourceError(self.error.message)
        super().check_can_send()

    def revoke(self) -> None:
        """The value was not passed after all."""
        if not self.over:
            self.link.channels.cancel(self.channel, "the channel was not passed after all")
            self.finish(CallCancelled("the channel was not passed after all"))

    async def wait_forwarded(self) -> None:
        """Return once everything was handed on that has come, if the channel is over and the local end is a channel of
        another call."""
        if self._forwards and self.over:
            await self._is_pumped.wait()

    # -- pumps: between a local trio channel and the wire ----------------------------------------------

    def start_pump(self, local: Any) -> None:
        """Begin to move items between the wire and the local channel that was passed."""
        self._pumps_out = isinstance(local, trio.abc.ReceiveChannel)
        self._forwards = isinstance(local, SendChannel)
        # What is sent against the direction of a channel is nobody's, and its credit goes back at once.
        self._closed_receive = self._pumps_out
        self.link.engine.dropped.pumped(self, local)
        self.link.engine.spawn(self.pump_out if self._pumps_out else self.pump_in, local)

    async def pump_out(self, source: trio.abc.ReceiveChannel[Any]) -> None:
        """Send what comes from a local channel; the task that does it. Ends when the channel is over."""
        await self._pump(self._send_all, source)

    async def pump_in(self, sink: trio.abc.SendChannel[Any]) -> None:
        """Hand what comes on the wire to a local channel; the task that does it.

        Goes on after the other side, or the link, has ended the channel, until everything was handed over.
        """
        await self._pump(self._receive_all, sink)

    @property
    def _is_pump_done(self) -> bool:
        """Whether a pump has nothing more to do once the channel is over. One that hands on what came goes on, however
        late it begins: all may have come, with the end, before it did."""
        return self._pumps_out or self._is_abandoned

    async def _send_all(self, source: trio.abc.ReceiveChannel[Any]) -> None:
        async for item in source:
            await self.send_item(item)
        self.end_now()

    async def _receive_all(self, sink: trio.abc.SendChannel[Any]) -> None:
        item = NOTHING
        try:
            async for item in ReceiveEnd(self):
                await sink.send(item)
                item = NOTHING
        except trio.Cancelled:
            self._hand_on_now(sink, item)
            raise
        await sink.aclose()

    def _hand_on_now(self, sink: Any, item: Any) -> None:
        """Nobody waits any more until the local channel takes what has come: hand on that for which it has room."""
        try:
            while item is not NOTHING or self.queued:
                if item is NOTHING:
                    item = self._take_now()
                if not isinstance(sink, trio.MemorySendChannel):
                    raise trio.WouldBlock
                sink.send_nowait(item)
                item = NOTHING
        except trio.WouldBlock:
            if not self._is_abandoned:
                logger.warning(
                    "%d items that had come on a channel passed to %s were not taken before this peer was closed",
                    1 + self.queued,
                    self.link.peer_name,
                )
        except (RPCError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.debug("what came on a channel passed to %s was not taken: %r", self.link.peer_name, error)

    def _take_now(self) -> Any:
        message = None if self._taking else self._take_next()
        return self.decode_item(self._message(self._taking.pop()) if message is None else message)

    async def _pump(self, step: Callable[[Any], Awaitable[None]], local: Any) -> None:
        self._pump_scope = trio.CancelScope()
        if self.over and self._is_pump_done:
            self._pump_scope.cancel()
        reason = "the task that passed the channel on has given that up"
        try:
            with self._pump_scope:
                try:
                    await step(local)
                    reason = ""
                except (DuplexError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    reason = str(error) or type(error).__name__
                    self._give_up(reason)
                except BaseException as error:
                    if is_interrupt(error):
                        raise
                    # The application's own channel failed; that must cost its call and nothing else.
                    logger.exception("a channel passed to %s failed", self.link.peer_name)
                    reason = f"the channel failed at its origin: {type(error).__name__}"
                    self._give_up(reason)
        finally:
            self.link.engine.dropped.pump_ended(self)
            self.drop_inbox()
            if reason and isinstance(local, SendEnd):
                local.break_off(reason)
            await close_local(local)
            self._is_pumped.set()
            if self.over:
                self._disown_if_pumped()

    def give_up_pump(self, reason: str) -> None:
        """Nobody is at the other end of the local channel any more."""
        self._is_abandoned = True
        self._give_up(reason)
        if self._pump_scope is not None:
            self._pump_scope.cancel()

    def _give_up(self, reason: str) -> None:
        if not self.over:
            logger.warning("a channel passed to %s was cut short: %s", self.link.peer_name, reason)
            self._is_abandoned = True
            self.link.channels.cancel(self.channel, reason)
            self.finish(CallCancelled(reason))
