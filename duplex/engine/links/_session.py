"""One established connection between two peers: its handshake, what both sides say of themselves, and its end."""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol, final

import trio

from duplex._errors import HandshakeError, PeerLost, RPCError, Unavailable
from duplex._identity import Identity
from duplex._metadata import IDEMPOTENCY_FEATURE
from duplex.engine._log import clean, logger
from duplex.engine._peer_info import PeerInfo
from duplex.engine._public_link import PublicLink
from duplex.engine._statistics import LinkStatistics
from duplex.engine._throttle import Throttle
from duplex.engine.calling import LinkCaller
from duplex.engine.channels import CallValues, ChannelUser, CreditReturns, CreditShare, is_much_unread
from duplex.engine.links._channels import Channels, ChannelsOwner
from duplex.engine.links._handshake import HandshakeOwner, Judge, LinkHandshake
from duplex.engine.links._inbound import Inbound, ReceivingOwner
from duplex.engine.links._keepalive import LinkKeeper, SlowPeers
from duplex.engine.links._lost import tell_all
from duplex.engine.links._outbound import Outbound
from duplex.engine.links._pings import Pings
from duplex.engine.links._values import LinkValues, ValuesOwner
from duplex.engine.serving import Admission, Callbacks
from duplex.engine.tasks import Flusher, Job, Workers
from duplex.protocol import (
    FIRST_PROOF,
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    Connection,
    CreditReceived,
    EndReceived,
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
from duplex.transports import Carrier, Port

#: Seconds that the other side of a link that is left has to confirm that what was sent has arrived.
CONFIRM: Final = 1.0


class LinkEvents(Judge, Protocol):
    """What is told of the links of a peer, and asked."""

    def opened(self, link: Session) -> None:
        """A handshake is done."""

    def left(self, link: Session, *, idle: bool) -> None:
        """No new calls go over a link, because one of its sides has said so."""

    def parted(self, link: Session) -> None:
        """This side leaves a link, and none is to take its place."""

    def lost(self, link: Session, reason: str) -> None:
        """A link is over."""

    def offers_changed(self, link: Session, before: Collection[str]) -> None:
        """A linked peer offers other services than before."""

    def note_delay(self, link: Session, delay: float) -> None:
        """A linked peer has said how late its event loop runs, or has not answered for so many seconds."""

    def weight_of(self, link: Session) -> float:
        """Return how many calls the peer of a link is to get, as a multiple of what others get."""


class Greeting(Protocol):
    """What a peer offers."""

    def hello(self) -> Hello:
        """Return what it says of itself."""


class LinkOwner(ChannelsOwner, ValuesOwner, ReceivingOwner, HandshakeOwner, Protocol):
    """The peer whose link it is."""

    def spawn(
        self, function: Callable[..., Awaitable[object]], /, *args: Any, name: str | None = None
    ) -> None:
        """Run something until it ends or the peer does."""

    @property
    def is_closed(self) -> bool:
        """Whether it has closed all links, and makes no more."""

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls."""

    @property
    def workers(self) -> Workers:
        """The tasks that run handlers, and receive."""

    @property
    def flusher(self) -> Flusher:
        """Tells when trio is about to wait for I/O."""

    @property
    def admission(self) -> Admission:
        """Which calls are taken."""

    @property
    def callbacks(self) -> Callbacks:
        """The callbacks that run."""

    @property
    def slow(self) -> SlowPeers:
        """Those that do not answer."""

    @property
    def services(self) -> Greeting:
        """What it offers."""

    @property
    def registry(self) -> LinkEvents:
        """Its links."""

    def publish(self, link: Session) -> PublicLink:
        """Make what the program sees of a link."""


def _proof_token() -> int:
    return FIRST_PROOF + secrets.randbelow(FIRST_PROOF)


# Large because the parts of a link meet here: each has one duty, and finds the others by the link. What is asked for each
# call, such as ``touch``, is an attribute rather than a method that would hand it on.
@final
class Session:
    """One link, which the program sees as a :class:`duplex.Link`.

    Args:
        engine: whose link it is.
        port: what it came by.
        carrier: moves its messages.
        hello: what this side says of itself.
        connecting: whether this side has connected, rather than bound.

    Attributes:
        connection: the protocol.
        outbound: what goes out.
        inbound: what comes in.
        channels: who uses its channels.
        values: functions and channels that were passed over it.
        credit: who waits for credit of the link.
        returns: what it owes of credit.
        pings: how long the other side takes to answer.
        handshake: whether there is to be one.
        is_established: both sides have said so.
        keeper: whether it is slow, idle or too old.
        caller: makes the calls that take this link.
        turns: those in which its messages come.
        lead: the receiving in them, for callers that may do it themselves: those of the only link that has these turns.
        touch: see :meth:`Outbound.touch`.
        consumed: see :meth:`Outbound.consumed`.
        now: when the present or the latest batch of commands began, in or out: near enough to date a call.
        cancelled_in: the pass of the event loop in which a call that came over it was cancelled last.
        running: handlers that run for the other side.
        callbacks: callbacks that do.
        seen_buffered: bytes that nobody had taken yet when :class:`Admission` saw the link last.
        remote: who is at the other side; before the handshake, only who its carrier says that it is.
        offers: services that the other side offers, by name.
        keeps_keys: whether the other side keeps idempotency keys.
        is_left: this side takes no new calls on the link; see :meth:`leave`.
        is_parted: nor does it make any; see :meth:`part`.
        goodbye: why the link ends after the present message, if it does.
        error: why the link is over, once it is.
        refusal: why there is none, if one of the sides has said so.
    """

    def __init__(
        self, engine: LinkOwner, port: Port, carrier: Carrier, hello: Hello, *, connecting: bool
    ) -> None:
        self.engine = engine
        self.port = port
        self.connecting = connecting
        self.turns = turns = carrier.turns
        self.lead = None if turns.is_shared else engine.workers.leads.get(turns)
        self.made_at: float = engine.clock()
        self.now = self.made_at
        self.cancelled_in = -2  # none was
        self.running = 0
        self.callbacks = 0
        self.seen_buffered = 0
        self.remote = PeerInfo("", "", carrier.identity)
        self.offers: dict[str, ServiceInfo] = {}
        self.keeps_keys = False
        self.is_established = False
        self.is_left = False
        self.is_parted = False
        self.goodbye: str | None = None
        self.error: RPCError | None = None
        self.refusal: HandshakeError | None = None
        self.throttle = Throttle()
        self._public: PublicLink | None = None
        self._lost = trio.Event()
        self.connection = Connection(
            hello,
            connecting=connecting,
            now=self.made_at,
            room=engine.admission.room,
            max_unsent=engine.limits.max_unsent,
            proof_token=_proof_token,
        )
        self.credit = CreditShare(self.connection)
        self.returns = CreditReturns(engine.limits)
        self.outbound = Outbound(self, self.connection, carrier, turns, engine.flusher, engine.clock)
        self.touch = self.outbound.touch
        self.consumed = self.outbound.consumed
        self.channels = Channels(self, engine.reception, engine.call_ended.notify)
        self.values = LinkValues(self)
        self.caller = LinkCaller(self)
        self.keeper = LinkKeeper(self)
        self.pings = Pings(self.connection, self.touch, self._note_delay, self.keeper.answered)
        self.handshake = LinkHandshake(self)
        self.inbound = Inbound(self, self._handlers())
        if connecting:
            if engine.authenticator is not None:
                self.inbound.take_one()  # and look at the rest when it is known who says it
            self.connection.greet()
            self.touch()

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        """Return who acts on each event."""
        channels = self.channels
        return {
            ChannelOpened: channels.on_opened,
            ChannelClosed: channels.on_closed,
            MessageReceived: channels.on_message,
            ItemsReceived: channels.on_items,
            CreditReceived: channels.on_credit,
            EndReceived: channels.on_end,
            CancelReceived: channels.on_cancelled,
            HelloReceived: self.handshake.on_hello,
            LinkOpened: self.handshake.on_link_opened,
            LinkRefused: self.handshake.on_refused,
            ServicesAnnounced: self._on_announced,
            GoawayReceived: self._on_goaway,
            PingReceived: self.pings.on_ping,
            PongReceived: self.pings.on_pong,
        }

    # -- what is known of it ---------------------------------------------------------------------------

    @property
    def public(self) -> PublicLink:
        """What the program sees of it: one object, made when it is first asked for."""
        public = self._public
        if public is None:
            public = self._public = self.engine.publish(self)
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
    def label(self) -> str:
        """Who the other peer is, for the log: its name, and its principal if that was proved."""
        identity = self.remote.identity
        return self.peer_name if identity.is_anonymous else f"{self.peer_name} ({clean(identity.principal)})"

    @property
    def weight(self) -> float:
        """How many calls it is to get, as a multiple of what others get."""
        return self.engine.registry.weight_of(self)

    @property
    def slowness(self) -> str:
        """How long the other side has not answered, in a few words; empty if it is not slow."""
        if not self.keeper.is_slow:
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
        return self.is_established and self.connection.is_open

    @property
    def carrier(self) -> Carrier:
        """What moves its messages."""
        return self.outbound.carrier

    async def wait_closed(self) -> None:
        """Return once the link is over."""
        self.engine.check_thread()
        await self._lost.wait()

    async def ping(self) -> float:
        """See :meth:`duplex.Link.ping`."""
        self.engine.check_thread()
        if not self.connection.is_open:
            await trio.lowlevel.checkpoint()
            raise self.unavailable()
        round_trip = await self.pings.ping()
        if round_trip is None or self.error is not None:
            raise self.unavailable()
        return round_trip

    def _note_delay(self, delay: float) -> None:
        self.engine.registry.note_delay(self, delay)

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        self.engine.check_thread()
        protocol = self.connection.statistics()
        now = trio.current_time()
        return LinkStatistics(
            peer_id=self.peer_id,
            peer_name=self.peer_name,
            principal=self.remote.identity.principal,
            proof=self.remote.identity.proof,
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
            is_slow=self.keeper.is_slow,
            is_leaving=self.connection.leaving or self.connection.remote_leaving,
            dropped_items=self.channels.dropped_items,
            round_trip=self.pings.round_trip,
            remote_delay=self.pings.remote_delay,
        )

    # -- handshake -------------------------------------------------------------------------------------

    def establish(self, remote: Hello, identity: Identity) -> None:
        """Both sides want the link.

        Args:
            remote: what the other side says of itself.
            identity: who it is.
        """
        self.is_established = True
        self.remote = PeerInfo(remote.peer_id, remote.name, identity)
        self.offers = {info.name: info for info in remote.services}
        self.keeps_keys = IDEMPOTENCY_FEATURE in remote.features
        services = self.engine.services.hello().services
        if services != self.connection.local.services:  # it has taken a while
            self.connection.announce(services)
            self.touch()
        self.engine.registry.opened(self)

    def _on_announced(self, event: ServicesAnnounced) -> None:
        before, self.offers = self.offers, {info.name: info for info in event.services}
        self.engine.registry.offers_changed(self, before)

    def _on_goaway(self, event: GoawayReceived) -> None:
        if event.reason not in ("closing", "protocol", "auth"):
            # Also of a later version, which is to be taken for draining.
            self.engine.registry.left(self, idle=event.reason == "idle")
        else:
            # The link ends after this message, whose other events say which calls never began.
            self.goodbye = f"it said goodbye ({event.reason}{': ' if event.message else ''}{event.message})"

    # -- the end ---------------------------------------------------------------------------------------

    def lose(self, reason: str) -> None:
        """The link is over: fail what runs on it. Idempotent."""
        if self._lost.is_set():
            return
        self.connection.terminate()
        for kind, count in self.throttle.left():
            logger.warning("%s: %d more from %s were not logged one by one", kind, count, self.label)
        self.error = PeerLost(f"the link to {self.peer_name} over {self.endpoint} ended: {reason}")
        self._lost.set()
        self.handshake.over()
        self.keeper.over()
        self.pings.end()
        self.values.functions.clear()
        self.returns.pending.clear()
        self.inbound.hand_over()
        tell_all(self, self.outbound.unsent_channel)
        for waiting in list(self.credit.waiters):
            if waiting.channel not in self.channels.users:  # the others are told in their turn
                waiting.on_credit()
        self.carrier.close()
        self.engine.registry.lost(self, reason)

    def leave(self, reason: str, message: str) -> None:
        """Tell the other side to open no more calls on the link; those that run may finish.

        Args:
            reason: ``draining`` or ``idle``.
            message: for the human at the other side.
        """
        if self.connection.is_open and not self.is_left:
            self.is_left = True
            self.keeper.leaving_since = trio.current_time()
            self.connection.leave(reason, message)
            self.touch()
            if not self.engine.is_draining:
                self.engine.registry.left(self, idle=reason == "idle")

    def part(self) -> None:
        """See :meth:`duplex.Link.leave`."""
        if not self.connection.is_open or self.is_parted:
            return
        self.is_parted = True
        self.keeper.grace = math.inf
        self.engine.registry.parted(self)
        self.leave("draining", "the other side leaves the link")
        self.engine.spawn(self._close_in_order, name=f"duplex link to {self.peer_name} that is left")

    async def _close_in_order(self) -> None:
        """Close the link when nothing runs on it any more, and the other side has what was sent."""
        while self.channels.users and self.error is None:
            await self.engine.call_ended.wait()
        with trio.move_on_after(CONFIRM):
            try:
                await self.ping()
            except Unavailable:
                pass  # it is gone
        self.say_goodbye("closing")

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""
        if self.connection.is_open:
            self.connection.leave(reason, message)
            self.outbound.send_now()
        self.lose(f"this side closed it{': ' if message else ''}{message}")

    # -- calls -----------------------------------------------------------------------------------------

    def unavailable(self) -> RPCError:
        """Return the error for a call that cannot begin on this link."""
        if self.error is not None:
            error: RPCError = PeerLost(self.error.message)
        else:
            error = Unavailable(f"the link to {self.peer_name} is closing and takes no new calls")
        error.may_have_executed = False
        return error

    async def wait_link_credit(self, channel_end: ChannelUser) -> None:
        """Wait until something may be sent on the link, or the channel end has its outcome. Raises
        ``Unavailable`` when the link is lost."""
        self.engine.check_thread()
        channel_end.started = trio.current_time()
        while (self.connection.link_credit <= 0 or is_much_unread(self)) and not channel_end.has_outcome:
            if not self.connection.is_open:
                raise self.unavailable()
            await channel_end.wait_credit(result=True)

    def submit(self, job: Job, owner: CallValues | None = None) -> None:
        """Have a worker run a handler for the other side, or a callback that was passed in the call ``owner``."""
        if owner is None:
            self.running += 1
            self.engine.admission.running += 1
        else:
            self.engine.callbacks.begin(self, owner)
        backlog = self.inbound.backlog
        if backlog is not None and backlog.jobs:
            backlog.jobs.append(job)  # not before those that came earlier
        else:
            self.engine.workers.submit(job, self)

    def go_on(self) -> bool:
        """See :meth:`Inbound.go_on`."""
        return self.inbound.go_on()

    def postpone(self, job: Job, *, before: bool = False) -> bool:
        """See :meth:`duplex.engine.tasks.Source.postpone`."""
        return self.inbound.postpone(job, before=before)

    def ran(self, owner: CallValues | None = None) -> None:
        """What was submitted has ended."""
        if owner is None:
            self.running -= 1
            self.engine.admission.running -= 1
        else:
            self.engine.callbacks.end(self, owner)
        if self.is_left:
            self.engine.call_ended.notify()
