"""One established connection between two peers: the protocol, the carrier and the conversations on it."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import trio

from duplex._errors import (
    HandshakeError,
    LocalProtocolError,
    PeerLost,
    RemoteProtocolError,
    RPCError,
    Unavailable,
)
from duplex._metadata import (
    IDEMPOTENCY_FEATURE,
)
from duplex._status import StatusCode
from duplex.codec._base import Buffer
from duplex.engine._backlog import Backlog
from duplex.engine._handler import Handler
from duplex.engine._log import clean, logger
from duplex.engine._lost import tell_all
from duplex.engine._public_link import PublicLink
from duplex.engine._statistics import LinkStatistics
from duplex.engine._throttle import Throttle
from duplex.engine._watch import LinkWatch
from duplex.engine.calling import LinkCaller, RemoteCallback
from duplex.engine.channels import (
    CallValues,
    ChannelUser,
    CreditReturns,
    CreditShare,
    NestedChannel,
    in_short,
    is_much_unread,
)
from duplex.engine.serving import refuse
from duplex.engine.tasks import Job
from duplex.protocol import (
    END,
    FIRST_PROOF,
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ChannelState,
    Connection,
    CreditReceived,
    EndReceived,
    Event,
    GoawayReceived,
    Hello,
    HelloReceived,
    ItemsReceived,
    LinkOpened,
    LinkRefused,
    MessageReceived,
    PingReceived,
    PongReceived,
    ServiceInfo,
    ServicesAnnounced,
)
from duplex.transports._base import Carrier, CarrierDown, Frames, Port

if TYPE_CHECKING:
    from duplex.engine._engine import Engine


#: Commands queued within one tick that are not held back until its end: the other side can begin.
FLUSH_AT: Final = 32
#: Events that are acted upon for one link before others have their turn: of a new message, and of one that waits.
MOST_EVENTS: Final = 16
PART: Final = 8
#: Seconds that the other side of a link that is left has to confirm that what was sent has arrived.
CONFIRM: Final = 1.0


def _proof_token() -> int:
    return FIRST_PROOF + secrets.randbelow(FIRST_PROOF)


@final
class BaseLink:
    """One link, which the program sees as a :class:`duplex.Link`."""

    def __init__(self, peer: Engine[Any], port: Port, carrier: Carrier, *, connecting: bool) -> None:
        self.peer = peer
        self.port = port
        self.carrier = carrier
        self.connecting = connecting
        #: The receiving from the port, for callers that may do it themselves: those of its only link.
        self.lead = peer.workers.leads.get(port) if connecting else None
        self._clock = peer.clock
        self.made_at: float = self._clock()
        #: When the present or the latest batch of commands began, in or out: near enough to date a call.
        self.now = self.made_at
        #: Handlers that run for the other side, and callbacks that do.
        self.running = 0
        self.callbacks = 0
        #: Bytes that nobody had taken yet when :class:`Admission` saw the link last.
        self.seen_buffered = 0
        #: This side takes no new calls on the link; see :meth:`leave`.
        self.is_left = False
        #: Nor does it make any; see :meth:`part`.
        self.is_parted = False
        self.watch = LinkWatch(self)
        #: Makes the calls that take this link.
        self.caller = LinkCaller(self)
        #: The first of this side's channels that was not handed to the transport.
        self._unsent_channel = 0
        self.connection = Connection(
            peer.hello(),
            connecting=connecting,
            now=self.made_at,
            room=peer.admission.room,
            max_unsent=peer.limits.max_unsent,
            proof_token=_proof_token,
        )
        #: Conversations by channel number.
        self.conversations: dict[int, ChannelUser] = {}
        self._credit_share = CreditShare(self.connection)
        #: See :attr:`CreditShare.waiters`.
        self.credit_waiters = self._credit_share.waiters
        #: The other side has granted more on the link, in what is being acted upon.
        self._has_link_credit_come = False
        self.returns = CreditReturns(peer.limits)
        #: Items of streams that were dropped here, see :mod:`duplex.engine.channels._overflow`.
        self.dropped_items = 0
        #: Services that the other side offers, by name.
        self.offers: dict[str, ServiceInfo] = {}
        #: Why the link is over, once it is.
        self.error: RPCError | None = None
        self.refusal: HandshakeError | None = None
        self.round_trip: float | None = None
        self.remote_delay: float | None = None
        self._public: PublicLink | None = None
        self._lost = trio.Event()
        self._goodbye: str | None = None
        self.throttle = Throttle()
        #: Messages that came while there was more to do for the other side than for one turn; ``None`` if there is not.
        self.backlog: Backlog | None = None
        #: Why the connection has ended, if it did before all was taken.
        self._down: str | None = None
        self._dirty = False
        self._flusher = peer.flusher
        #: What the other side may call, and the call that each lives as long as.
        self._callbacks: dict[int, tuple[Handler, CallValues]] = {}
        #: The other side keeps idempotency keys.
        self.keeps_keys = False
        self._next_callback = 1
        self._pong = trio.Event()
        self._reception = peer.reception
        self._dispatch: dict[type, Callable[[Any], None]] = {
            ChannelOpened: self._on_opened,
            ChannelClosed: self._on_closed,
            MessageReceived: self._on_message,
            ItemsReceived: self._on_items,
            CreditReceived: self._on_credit,
            EndReceived: self._on_end,
            CancelReceived: self._on_cancelled,
            HelloReceived: self._on_hello,
            LinkOpened: self._on_link_opened,
            LinkRefused: self._on_refused,
            ServicesAnnounced: self._on_announced,
            GoawayReceived: self._on_goaway,
            PingReceived: self._on_ping,
            PongReceived: self._on_pong,
        }
        if connecting:
            self.connection.greet()
            self.touch()

    # -- what is known of it ---------------------------------------------------------------------------

    @property
    def public(self) -> PublicLink:
        """What the program sees of it: one object, made when it is first asked for."""
        public = self._public
        if public is None:
            public = self._public = self.peer.publish(self)
        return public

    @property
    def peer_id(self) -> str:
        """The other peer's id: random, made when its process opened it; empty before the handshake."""
        remote = self.connection.remote
        return "" if remote is None else remote.peer_id

    @property
    def peer_name(self) -> str:
        """The other peer's name, or its id if it has none. What cannot be printed in it is escaped."""
        remote = self.connection.remote
        return self.carrier.address if remote is None else clean(remote.name or remote.peer_id)

    @property
    def weight(self) -> float:
        """How many calls it is to get, as a multiple of what others get."""
        return self.peer.ports.weight_of(self)

    @property
    def slowness(self) -> str:
        """How long the other side has not answered, in a few words; empty if it is not slow."""
        if not self.watch.is_slow:
            return ""
        unanswered = self.connection.unanswered_for(trio.current_time()) or 0.0
        return f"it has not answered a ping for {unanswered:.1f} s"

    @property
    def endpoint(self) -> str:
        """The endpoint that this side bound or connected."""
        return self.port.endpoint

    @property
    def services(self) -> Mapping[str, str]:
        """The services that the other side offers: name to version."""
        return {name: info.version for name, info in self.offers.items()}

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self.connection.is_open

    async def wait_closed(self) -> None:
        """Return once the link is over."""
        self.peer.check_thread()
        await self._lost.wait()

    async def ping(self) -> float:
        """Return the seconds that a message to the other peer's event loop and back takes.

        Raises:
            Unavailable: the link is over. Bound the time with a trio cancel scope.
        """
        self.peer.check_thread()
        if not self.connection.is_open:
            await trio.lowlevel.checkpoint()
            raise self.unavailable()
        token = self.connection.ping(trio.current_time())
        self.touch()
        while self.error is None and self.connection.awaits_pong(token):
            await self._pong.wait()
        if self.round_trip is None or self.error is not None:
            raise self.unavailable()
        return self.round_trip

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        self.peer.check_thread()
        protocol = self.connection.statistics()
        now = trio.current_time()
        return LinkStatistics(
            peer_id=self.peer_id,
            peer_name=self.peer_name,
            endpoint=self.endpoint,
            outgoing=protocol.channels_opened_here,
            incoming=protocol.channels_opened_there,
            send_credit=protocol.send_credit,
            unconsumed=protocol.unconsumed,
            dropped_commands=protocol.dropped_commands,
            channel_violations=protocol.channel_violations,
            running=self.running + self.callbacks,
            age=now - self.made_at,
            silent_for=now - self.connection.last_received,
            unanswered_for=self.connection.unanswered_for(now),
            is_slow=self.watch.is_slow,
            is_leaving=self.connection.leaving or self.connection.remote_leaving,
            dropped_items=self.dropped_items,
            round_trip=self.round_trip,
            remote_delay=self.remote_delay,
        )

    # -- bytes out and in ------------------------------------------------------------------------------

    def touch(self) -> None:
        """Note that something was queued: it goes out at the end of this tick, or now if it is much."""
        if not self._dirty:
            self._dirty = True
            self.now = self._clock()
            self._flusher.dirty.append(self)
        elif self.connection.pending_commands >= FLUSH_AT:
            self.transmit()
            self.port.sends_done()
            self._dirty = True  # it is on the flusher's list still

    def transmit(self) -> None:
        """Hand everything that is queued to the transport."""
        self._dirty = False
        for frames in self.connection.data_to_send():
            try:
                self.carrier.send(frames)
            except CarrierDown:
                return  # the port reports it from its own task
            # Set with the first message, though the rest may fail: which one a channel is in is not known.
            self._unsent_channel = self.connection.next_channel
        if self.connection.unread is not None:
            # Not at once: this may be the flusher's, which must not wake any task.
            trio.lowlevel.current_trio_token().run_sync_soon(self._cut)

    def _cut(self) -> None:
        """End a link whose other side does not read what it asks for."""
        if self.error is None:
            logger.warning("the link to %s is cut: %s", self.peer_name, self.connection.unread)
            self.lose(f"this side cut it: {self.connection.unread}")

    def on_frames(self, frames: Frames) -> None:
        """A message came from the other side."""
        if self.backlog is None:
            self._take(frames, MOST_EVENTS)
            return
        self.backlog.add(frames)
        if self.backlog.is_too_much and self.connection.is_open:
            why = f"{self.backlog.size} bytes that it sent wait for their turn, more than credit can have let it send"
            logger.warning("the link to %s is cut: %s", self.peer_name, why)
            self.say_goodbye("closing", why)

    def go_on(self) -> bool:
        """Act on a little more of what has come; tell whether there is still more."""
        backlog = self.backlog
        assert backlog is not None
        left = PART
        workers = self.peer.workers
        while backlog.jobs and left > 0 and not workers.is_full:
            workers.submit(backlog.jobs.popleft())
            left -= 1
        connection = self.connection
        while left > 0 and not self._lost.is_set():
            if backlog.jobs or not (connection.is_unfinished or backlog.messages):
                break
            # Messages that mean nothing have to be read, too.
            left -= 1 + self._take(None if connection.is_unfinished else backlog.take(), left)
        if not self._lost.is_set() and (backlog.jobs or connection.is_unfinished or backlog.messages):
            return True
        self.backlog = None
        if self._down is not None:
            self.lose(self._down)
        return False

    def _begin_backlog(self) -> Backlog:
        self.backlog = Backlog(self.peer.limits)
        self.peer.workers.leads[self.port].wait_for_turn(self)
        return self.backlog

    def postpone(self, job: Job, *, before: bool = False) -> bool:
        """See :meth:`duplex.engine.tasks.Source.postpone`."""
        if self._lost.is_set() or self.port not in self.peer.workers.leads:
            return False
        jobs = (self.backlog or self._begin_backlog()).jobs
        if before:
            jobs.appendleft(job)
        else:
            jobs.append(job)
        return True

    def down(self, reason: str) -> None:
        """The connection has ended, and with it the link, as soon as all is taken that came before."""
        if self.backlog is None:
            self.lose(reason)
        else:
            self._down = reason

    def _take(self, frames: Frames | None, most: int) -> int:
        """Act on a message, or on what was left of one, until so many events or commands; return how many it were."""
        connection = self.connection
        try:
            self.now = now = self._clock()
            if frames is None:
                events = connection.go_on(now, most)
            else:
                events = connection.receive(frames, now, most)
        except RemoteProtocolError as error:
            why = str(error)  # not the error itself: a log that keeps records would keep the link
            # Who never greeted may have been linked until this side closed the link a moment ago, with
            # messages still under way: that is nothing to warn of.
            level = logging.INFO if self.connection.remote is None else logging.WARNING
            logger.log(level, "the link to %s broke the protocol and is closed: %s", self.peer_name, why)
            self.refusal = HandshakeError("protocol", why)
            self.transmit()
            self.port.sends_done()
            self._note_last(error.events)
            self.lose(f"it broke the protocol: {why}")
            return 0
        dispatch = self._dispatch
        try:
            for event in events:
                if self.error is not None:
                    return 0
                dispatch[type(event)](event)
            if self._has_link_credit_come:
                self._has_link_credit_come = False
                self._credit_share.share()
        except Exception:
            # A bug of ours must cost this link and no other: its state can no longer be trusted.
            logger.exception("handling a message from %s failed; the link is closed", self.peer_name)
            self.say_goodbye("closing", "internal error")
            return 0
        if connection.is_unfinished:
            if self.backlog is None:
                self._begin_backlog()
        elif self._goodbye is not None:
            self.lose(self._goodbye)
            return 0
        if not self._dirty and connection.pending_commands:
            self.touch()
        # Of commands that mean nothing, such as calls that are refused, there may be as many.
        return max(len(events), connection.looked_at)

    def _note_last(self, events: Sequence[Event]) -> None:
        """Take note of what came in front of that which broke the link, such as results: calls do not depend on how
        much comes in one message. Of a handshake nothing comes any more."""
        try:
            for event in events:
                if isinstance(event, (HelloReceived, LinkOpened)):
                    return
                self._dispatch[type(event)](event)
        except Exception:
            logger.exception("handling the last message from %s failed", self.peer_name)

    def consumed(self, channel: int, cost: int) -> None:
        """Note that the application took a message."""
        self.connection.consumed(channel, cost)
        if not self._dirty and self.connection.pending_commands:
            self.touch()

    # -- handshake and end -----------------------------------------------------------------------------

    def _on_hello(self, event: HelloReceived) -> None:
        refusal = self.peer.judge(self.carrier.address)
        if refusal is None:
            self.connection.accept()
            self._established(event.remote)
        else:
            self.connection.refuse(*refusal)
            self.transmit()
            self.port.sends_done()
            self.lose(f"refused: {refusal[1]}")
        self.touch()

    def _on_link_opened(self, event: LinkOpened) -> None:
        self._established(event.remote)

    def _established(self, remote: Hello) -> None:
        self.offers = {info.name: info for info in remote.services}
        self.keeps_keys = IDEMPOTENCY_FEATURE in remote.features
        self.peer.link_opened(self)

    def _on_refused(self, event: LinkRefused) -> None:
        self.refusal = HandshakeError(event.reason, event.message)
        self.transmit()  # it may be this side that refuses
        self.port.sends_done()
        self.lose(str(self.refusal))

    def _on_announced(self, event: ServicesAnnounced) -> None:
        before, self.offers = self.offers, {info.name: info for info in event.services}
        self.peer.offers_changed(self, before)

    def _on_goaway(self, event: GoawayReceived) -> None:
        if event.reason not in ("closing", "protocol"):
            # Also of a later version, which is to be taken for draining.
            self.peer.link_left(self, idle=event.reason == "idle")
        else:
            # The link ends after this message, whose other events say which calls never began.
            self._goodbye = f"it said goodbye ({event.reason}{': ' if event.message else ''}{event.message})"

    def lose(self, reason: str) -> None:
        """The link is over: fail what runs on it. Idempotent."""
        if self._lost.is_set():
            return
        self.connection.terminate()
        for kind, count in self.throttle.left():
            logger.warning("%s: %d more from %s were not logged one by one", kind, count, self.peer_name)
        self.error = PeerLost(f"the link to {self.peer_name} over {self.endpoint} ended: {reason}")
        self._lost.set()
        self.watch.over()
        self._pong.set()
        self._callbacks.clear()
        self.returns.pending.clear()
        if self.backlog is not None:
            self.peer.workers.hand_over(self.backlog.jobs)
        tell_all(self, self._unsent_channel)
        for waiting in list(self.credit_waiters):
            if waiting.channel not in self.conversations:  # the others are told in their turn
                waiting.on_credit()
        self.carrier.close()
        self.peer.link_lost(self, reason)

    def leave(self, reason: str, message: str) -> None:
        """Tell the other side to open no more calls on the link; those that run may finish.

        Args:
            reason: ``draining`` or ``idle``.
            message: for the human at the other side.
        """
        if self.connection.is_open and not self.is_left:
            self.is_left = True
            self.watch.leaving_since = trio.current_time()
            self.connection.leave(reason, message)
            self.touch()
            if not self.peer.is_draining:
                self.peer.link_left(self, idle=reason == "idle")

    def part(self) -> None:
        """See :meth:`duplex.Link.leave`."""
        if not self.connection.is_open or self.is_parted:
            return
        self.is_parted = True
        self.watch.grace = math.inf
        self.peer.link_parted(self)
        self.leave("draining", "the other side leaves the link")
        self.peer.spawn(self._close_in_order, name=f"duplex link to {self.peer_name} that is left")

    async def _close_in_order(self) -> None:
        """Close the link when nothing runs on it any more, and the other side has what was sent."""
        while self.conversations and self.error is None:
            await self.peer.call_ended.wait()
        with trio.move_on_after(CONFIRM):
            try:
                await self.ping()
            except Unavailable:
                pass  # it is gone
        self.say_goodbye("closing")

    def cancel_calls(self, reason: str, *, resumable: bool = False) -> None:
        """Cancel the handlers that run for the other side, whose calls end as ``Unavailable``.

        Args:
            reason: for the caller.
            resumable: only those of streams that go on elsewhere.
        """
        for conversation in list(self.conversations.values()):
            conversation.cut(StatusCode.UNAVAILABLE, reason, resumable=resumable)

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""
        if self.connection.is_open:
            self.connection.leave(reason, message)
            self.transmit()
            self.port.sends_done()
        self.lose(f"this side closed it{': ' if message else ''}{message}")

    def ping_now(self, delay: float) -> None:
        """Send a ping, so that a transport that knows the other side to be gone says so.

        Args:
            delay: seconds by which this side's event loop ran a timer late, which the other side is told.
        """
        if self.connection.is_open:
            self.connection.ping(trio.current_time(), delay)
            self.touch()

    def _on_ping(self, event: PingReceived) -> None:
        self.remote_delay = event.delay
        self.peer.table.note_delay(self, event.delay or 0.0)

    def _on_pong(self, event: PongReceived) -> None:
        self.round_trip = event.round_trip
        self.remote_delay = event.delay
        self.peer.table.note_delay(self, event.delay or 0.0)
        self.watch.answered()
        self._pong.set()
        self._pong = trio.Event()

    # -- calls from this side --------------------------------------------------------------------------

    def unavailable(self) -> RPCError:
        """Return the error for a call that cannot begin on this link."""
        if self.error is not None:
            error: RPCError = PeerLost(self.error.message)
        else:
            error = Unavailable(f"the link to {self.peer_name} is closing and takes no new calls")
        error.may_have_executed = False
        return error

    async def wait_link_credit(self, conversation: ChannelUser) -> None:
        """Wait until something may be sent on the link, or the conversation has its outcome. Raises
        ``Unavailable`` when the link is lost."""
        self.peer.check_thread()
        conversation.started = trio.current_time()
        while (self.connection.link_credit <= 0 or is_much_unread(self)) and not conversation.has_outcome:
            if not self.connection.is_open:
                raise self.unavailable()
            await conversation.wait_credit(result=True)

    def submit(self, job: Job, owner: CallValues | None = None) -> None:
        """Have a worker run a handler for the other side, or a callback that was passed in the call ``owner``."""
        if owner is None:
            self.running += 1
            self.peer.admission.running += 1
        else:
            self.peer.callbacks.begin(self, owner)
        if self.backlog is not None and self.backlog.jobs:
            self.backlog.jobs.append(job)  # not before those that came earlier
        else:
            self.peer.workers.submit(job)

    def ran(self, owner: CallValues | None = None) -> None:
        """What was submitted has ended."""
        if owner is None:
            self.running -= 1
            self.peer.admission.running -= 1
        else:
            self.peer.callbacks.end(self, owner)
        if self.is_left:
            self.peer.note_call_ended()

    def forget(self, channel: int) -> None:
        """Take no more events for a channel."""
        self.conversations.pop(channel, None)
        if self.is_left:
            self.peer.note_call_ended()

    def cancel_channel(self, channel: int, reason: str = "") -> None:
        """Abandon a channel that this side opened, if it is not over."""
        self.conversations.pop(channel, None)
        if self.is_left:
            self.peer.note_call_ended()
        if self.connection.is_open:
            self.connection.cancel(channel, reason)
            self.touch()

    def close_channel(
        self,
        channel: int,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        trailers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Close a channel that the other side opened, if the link still stands. Raises as
        :meth:`Connection.close`."""
        self.conversations.pop(channel, None)
        if self.is_left:
            self.peer.note_call_ended()
        if self.connection.is_open:
            if status and is_much_unread(self):
                message, details, trailers = in_short(self, message, trailers)
            try:
                self.connection.close(channel, status, payload, attachments, message, details, trailers)
            except LocalProtocolError:
                # What came with it, in the same message, has broken the channel, which is told next.
                if self.connection.channel_state(channel) is not ChannelState.OVER:
                    raise
            self.touch()

    def _on_message(self, event: MessageReceived) -> None:
        conversation = self.conversations.get(event.channel)
        if conversation is None:
            self.connection.consumed(event.channel, event.cost)
        elif event.result:
            conversation.on_result(event)
        else:
            conversation.on_message(event)

    def _on_items(self, event: ItemsReceived) -> None:
        conversation = self.conversations.get(event.channel)
        if conversation is None:
            self.connection.consumed(event.channel, event.cost)
        else:
            conversation.on_items(event)

    def _on_end(self, event: EndReceived) -> None:
        conversation = self.conversations.get(event.channel)
        if conversation is not None:
            conversation.on_end()

    def _on_closed(self, event: ChannelClosed) -> None:
        conversation = self.conversations.pop(event.channel, None)
        if conversation is not None:
            conversation.on_closed(event)
            if self.is_left:
                self.peer.note_call_ended()

    def _on_cancelled(self, event: CancelReceived) -> None:
        conversation = self.conversations.get(event.channel)
        if conversation is not None:
            conversation.on_cancelled(event)

    def _on_credit(self, event: CreditReceived) -> None:
        if event.channel:
            conversation = self.conversations.get(event.channel)
            if conversation is not None:
                conversation.on_credit()
        else:
            self._has_link_credit_come = True

    # -- calls from the other side ---------------------------------------------------------------------

    def _on_opened(self, event: ChannelOpened) -> None:
        if self._goodbye is not None:
            return
        if event.target is None:
            self._on_nested(event)
        else:
            self._reception.take(self, event)

    # -- live values -----------------------------------------------------------------------------------

    def export_callback(self, function: Callable[..., Any], root: CallValues) -> int:
        """Make a function callable for the other side, as long as ``root`` lives, and return its number."""
        number = self._next_callback
        self._next_callback += 1
        self._callbacks[number] = self.peer.make_callback_handler(function), root
        return number

    def callback(self, event: ChannelOpened) -> tuple[Handler, CallValues] | None:
        """Return what the call of a callback runs, and the call that it was passed in, if that is its parent."""
        assert isinstance(event.target, int)
        found = self._callbacks.get(event.target)
        # The channel that it came on may itself be nested in the call.
        owner = None if event.parent is None else self.conversations.get(event.parent)
        if found is None or owner is None or owner.root is not found[1]:
            return None
        return found

    def withdraw_callbacks(self, numbers: Sequence[int]) -> None:
        """Take back functions that were made callable."""
        for number in numbers:
            self._callbacks.pop(number, None)

    def import_callback(self, number: int, conversation: CallValues) -> RemoteCallback:
        """Return the local object for a function of the other side."""
        return RemoteCallback(self.caller, self.peer.default_codec, number, conversation)

    def open_nested(self, root: CallValues, *, sends_to_peer: bool) -> NestedChannel:
        """Open a channel nested in a call."""
        parent = root.ensure_open()
        child = NestedChannel(self, 0, self.peer.default_codec, root, opener=True)
        self.peer.check_thread()
        if not self.connection.is_open:
            raise self.unavailable()
        child.channel = self.connection.open(None, flags=0 if sends_to_peer else END, parent=parent)
        self.conversations[child.channel] = child
        self.touch()
        return child

    def _on_nested(self, event: ChannelOpened) -> None:
        parent = None if event.parent is None else self.conversations.get(event.parent)
        if parent is None or event.notify or event.payload is not None:
            refuse(
                self,
                event,
                StatusCode.FAILED_PRECONDITION,
                "a channel that is a value must name a call that is not over, and come without a message",
            )
            return
        root = parent.root
        child = NestedChannel(
            self, event.channel, self.peer.default_codec, root, opener=False, ended=event.end
        )
        self.conversations[event.channel] = child
        root.adopt(child)
