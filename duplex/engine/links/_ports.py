"""The ports of a peer: where it is bound, where it connects, and how one link takes the place of another."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from typing import Final, Protocol, final

import msgspec
import trio

from duplex._authentication import Credentials
from duplex._balancing import check_weight
from duplex._config import Reconnect
from duplex._errors import BindError, ConfigurationError, ConnectError, HandshakeError
from duplex._numbers import check_seconds
from duplex.engine._failure import must_go_on
from duplex.engine._log import logger
from duplex.engine._runs import check_run
from duplex.engine._shares import GREED, may_hold_more
from duplex.engine._signal import Signal
from duplex.engine.links._session import LinkOwner, Session
from duplex.engine.links._succession import Succession
from duplex.engine.links._table import LinkTable
from duplex.protocol import Hello, is_short, limits_info, max_frame, most_waiting, refusal
from duplex.transports import (
    TLS,
    Carrier,
    EndpointBusy,
    Frames,
    Port,
    TransportOptions,
    Transports,
    full_endpoint,
)

#: What is told of a side whose function for credentials has failed.
_NO_CREDENTIALS: Final = "cannot get at its own credentials; its log says why"
#: Seconds between attempts to bind an endpoint that is not free.
_RETRY: Final = 0.001


class PortsOwner(LinkOwner, Protocol):
    """The peer."""

    @property
    def reconnect(self) -> Reconnect:
        """The pauses between attempts to connect."""

    @property
    def connect_timeout(self) -> float:
        """Seconds that a link is waited for."""

    @property
    def credentials(self) -> Credentials | None:
        """What it shows to others."""

    @property
    def tls(self) -> TLS | None:
        """How it encrypts, and whom it trusts."""

    @property
    def transports(self) -> Transports:
        """What moves messages, by the schemes of endpoints."""


@final
class PortReceiver:
    """What the peer knows of one port: turns its callbacks into links."""

    def __init__(
        self, engine: PortsOwner, requested: str, *, connecting: bool, succession: Succession
    ) -> None:
        self.engine = engine
        self.requested = requested
        self.connecting = connecting
        self.port: Port
        self.links: dict[Carrier, Session] = {}
        #: Why the latest attempt that was answered came to nothing; until there is a link.
        self.refusal: HandshakeError | None = None
        self.attempts = 0
        self.closed = False
        #: Is notified when there is news for those who wait for a link of this port.
        self.changed = Signal()
        #: Connecting: the other side takes no more calls here, so the port ends with its link.
        self.retiring = False
        #: What takes its place then.
        self.successor: PortReceiver | None = None
        self.succession = succession
        #: The pause before the port runs; cancelled if it is closed during it.
        self.pausing = trio.CancelScope()
        self.is_pausing = False

    def note_change(self) -> None:
        """There is a link, or it is known that there will be none."""
        self.changed.notify()

    @property
    def latest(self) -> PortReceiver:
        """What has taken its place, or it itself."""
        receiver = self
        while receiver.successor is not None:
            receiver = receiver.successor
        return receiver

    async def run(self, pause: float) -> None:
        """Run the port, after so many seconds."""
        if pause:
            self.is_pausing = True
            with self.pausing:
                await trio.sleep(pause)
            self.is_pausing = False
        await self.port.run(functools.partial(self.engine.workers.receive, self.port))

    def carrier_up(self, carrier: Carrier) -> None:
        """See :class:`duplex.transports.Receiver`."""
        self.attempts += 1
        if not self._has_room(carrier.address):
            carrier.close()
            return
        try:
            hello = self._hello()
        except BaseException as error:
            if must_go_on(error):
                raise
            self._has_no_credentials(carrier, error)
        else:
            self._begin(carrier, hello)

    def _begin(self, carrier: Carrier, hello: Hello) -> Session:
        link = Session(self.engine, self.port, carrier, hello, connecting=self.connecting)
        self.links[carrier] = link
        return link

    def _has_no_credentials(self, carrier: Carrier, error: BaseException) -> None:
        logger.error(
            "the credentials for %s cannot be had, so there is no link", self.port.endpoint, exc_info=error
        )
        if self.connecting:
            self.refusal = HandshakeError("auth", f"this side {_NO_CREDENTIALS}")
            carrier.close()
            self.note_change()
        else:
            # Who connects waits for an answer, and there is no other way to end its connection than to give one.
            link = self._begin(carrier, self.engine.services.hello())
            link.handshake.refuse("auth", f"the other side {_NO_CREDENTIALS}")

    def _has_room(self, address: str) -> bool:
        """Whether there may be one connection more. Greeted links are refused with a reason from ``max_links`` on; this bounds
        those that never greet, and leaves some for other addresses than that of who opens many."""
        most, used = 2 * self.engine.limits.max_links, len(self.links)
        if GREED * (most - used) >= most:
            return True
        return may_hold_more(sum(carrier.address == address for carrier in self.links), used, most)

    def _hello(self) -> Hello:
        """Return what this peer says of itself. Raises whatever its credentials raise."""
        hello = self.engine.services.hello()
        if self.engine.credentials is not None:
            hello = msgspec.structs.replace(hello, credentials=self.engine.credentials(self.port.endpoint))
        if self.connecting and not is_short(hello):
            # What is not said now is announced as soon as there is a link.
            hello = msgspec.structs.replace(hello, services=())
        return hello

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        """See :class:`duplex.transports.Receiver`."""
        link = self.links.get(carrier)
        if link is not None:
            link.inbound.on_frames(frames)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        """See :class:`duplex.transports.Receiver`."""
        link = self.links.pop(carrier, None)
        if link is not None:
            link.inbound.down(reason)

    @property
    def is_hopeful(self) -> bool:
        """Whether nothing is known yet that speaks against a link."""
        return (
            self.connecting
            and not self.is_linked
            and not self.is_pausing
            and not self.port.last_error
            and self.refusal is None
        )

    @property
    def is_linked(self) -> bool:
        """Whether there is a link whose handshake is done."""
        return any(link.is_open for link in self.links.values())

    @property
    def is_unauthenticated(self) -> bool:
        """Whether there is no link because it is not proved who one of the sides is."""
        return (
            self.refusal is not None
            and self.refusal.reason == "auth"
            and not self.port.last_error
            and not self.is_linked
        )

    def why_not(self, services: Collection[str] = ()) -> str:
        """Return why there is no link, or none that offers some services, as far as that is known."""
        for link in self.links.values():
            missing = sorted(service for service in services if service not in link.offers)
            if link.is_open and missing:
                return f"{link.peer_name} is linked, and offers no {', '.join(missing)}"
        if any(link.handshake.is_deciding for link in self.links.values()):
            return (
                "the other side has let this one in, and this side's authenticator has not said yet who it is"
            )
        if self.is_pausing:
            return "the other side has left several links as soon as they were made, and the next one is made after a pause"
        attempts = dict.fromkeys(filter(None, (self.port.last_error, self.port.attempt)))
        if attempts:
            # Of a name's several addresses one may have refused, and the other be silent.
            return "; ".join(attempts)
        if self.refusal is not None:
            return str(self.refusal)
        if self.attempts:
            return "something answers there, but has not greeted as a Duplex peer does: it is none, or is still finding out who this is"
        return "nothing answers there"


@final
class Ports:
    """All ports of one peer.

    Args:
        peer: the peer.
        table: the links that have come by them.
    """

    def __init__(self, peer: PortsOwner, table: LinkTable) -> None:
        self._peer = peer
        self._table = table
        self._by_port: dict[Port, PortReceiver] = {}
        #: Endpoints that were connected, and are connected again when somebody needs a link; and not before when.
        self.asleep: dict[str, tuple[Succession, float]] = {}
        #: The weights of endpoints that were connected with one other than 1.
        self._weights: dict[str, float] = {}

    @property
    def receivers(self) -> Collection[PortReceiver]:
        """What the peer knows of each port, in the order in which they were opened."""
        return self._by_port.values()

    def _options(self) -> TransportOptions:
        peer = self._peer
        limits = peer.limits
        advertised = limits_info(limits)
        return TransportOptions(
            max_frame=max_frame(advertised),
            # What is under way on a link may be in one batch, and the last message of it is sent if there was any credit left.
            max_message=max_frame(advertised) + limits.link_window + limits.max_message,
            max_frames=1 + limits.max_commands * limits.max_attachments,
            hello_timeout=limits.hello_timeout,
            max_hello=limits.max_hello,
            refusal=refusal(
                "protocol", f"the first message has to be one frame of up to {limits.max_hello} bytes"
            ),
            max_ungreeted=limits.max_ungreeted,
            max_ungreeted_per_address=limits.max_ungreeted_per_address,
            max_handshakes=limits.max_handshakes,
            max_handshakes_per_address=limits.max_handshakes_per_address,
            receive_queue=most_waiting(advertised),
            heartbeat_interval=peer.keepalive.interval,
            heartbeat_timeout=peer.keepalive.timeout,
            max_silence=peer.keepalive.max_silence,
            reconnect=peer.reconnect,
            tls=peer.tls,
            blocking=False,
        )

    @property
    def bound(self) -> list[str]:
        """The real endpoints that this peer is bound to."""
        return [receiver.port.endpoint for receiver in self.receivers if not receiver.connecting]

    async def bind(self, endpoint: str) -> str:
        """See :meth:`duplex.Peer.bind`. Waits until the endpoint is free, if that may be in a moment."""
        check_run()
        await trio.lowlevel.checkpoint()
        began = time.monotonic()
        while True:
            try:
                return self.open(endpoint, connecting=False).port.endpoint
            except EndpointBusy as busy:
                if time.monotonic() >= began + busy.patience:
                    raise BindError(str(busy)) from None
            await trio.sleep(_RETRY)

    async def unbind(self, endpoint: str) -> None:
        """See :meth:`duplex.Peer.unbind`."""
        self._peer.check_thread()
        check_run()
        await trio.lowlevel.checkpoint()
        self.close_endpoint(endpoint, connecting=False)

    async def disconnect(self, endpoint: str) -> None:
        """See :meth:`duplex.Peer.disconnect`."""
        self._peer.check_thread()
        check_run()
        await trio.lowlevel.checkpoint()
        self.close_endpoint(endpoint, connecting=True)

    def open(self, endpoint: str, *, connecting: bool, weight: float = 1.0) -> PortReceiver:
        """Open a port and let it run.

        Raises ``ConfigurationError``, ``BindError``, and ``ClosedResourceError`` if the peer is closed.
        """
        peer = self._peer
        peer.check_thread()
        if peer.is_closed:
            raise trio.ClosedResourceError("this peer is closed")
        if peer.is_draining:
            raise trio.ClosedResourceError("this peer is draining and opens no more endpoints")
        if not isinstance(endpoint, str):
            raise ConfigurationError(f"an endpoint is a str such as 'tcp://127.0.0.1:7700', not {endpoint!r}")
        endpoint = full_endpoint(endpoint)
        receiver = self._open(endpoint, connecting=connecting)
        if connecting:
            self.weigh(endpoint, weight)
        return receiver

    def _open(
        self, endpoint: str, *, connecting: bool, succession: Succession | None = None, pause: float = 0.0
    ) -> PortReceiver:
        transport = self._peer.transports.transport_for(endpoint)
        if succession is None:
            succession = Succession(self._peer.reconnect)
        receiver: PortReceiver = PortReceiver(
            self._peer, endpoint, connecting=connecting, succession=succession
        )
        make = transport.connect if connecting else transport.bind
        receiver.port = make(endpoint, receiver, self._options())
        self._by_port[receiver.port] = receiver
        self._peer.spawn(receiver.run, pause, name=f"duplex port {endpoint}")
        if connecting:
            self.asleep.pop(endpoint, None)
        return receiver

    def connect_soon(self, endpoint: str, weight: float) -> None:
        """See :meth:`duplex.Peer.connect_soon`."""
        self.open(endpoint, connecting=True, weight=check_weight("weight", weight))

    async def connect(
        self, endpoint: str, timeout: float | None, weight: float, services: Collection[str]
    ) -> Session:
        """Connect and wait for the link; see :meth:`duplex.Peer.connect`."""
        check_run()
        seconds = self._peer.connect_timeout if timeout is None else timeout
        check_seconds("timeout", seconds, forever=True)
        check_weight("weight", weight)
        receiver = self.open(endpoint, connecting=True, weight=weight)
        link: Session | None = None
        try:
            with trio.move_on_after(seconds):
                link = await self._wait_link(receiver, services)
            if link is None:
                why = receiver.latest.why_not(services)
                raise ConnectError(f"no link to {endpoint} within {seconds:g} s: {why}")
        finally:
            if link is None:
                self.close(receiver.latest)
                self.close(receiver)
        return link

    async def _wait_link(self, receiver: PortReceiver, services: Collection[str]) -> Session:
        await trio.lowlevel.checkpoint()
        while True:
            receiver = receiver.latest
            for link in receiver.links.values():
                if link.is_open and all(service in link.offers for service in services):
                    return link
            # Who is draining will be followed by another, at the same endpoint as a rule.
            if receiver.refusal is not None and receiver.refusal.reason != "draining":
                raise receiver.refusal
            if self._peer.is_closed:
                raise trio.ClosedResourceError("this peer was closed while it connected")
            if receiver.closed:
                raise ConnectError(f"no link to {receiver.requested}: it was disconnected while it connected")
            await receiver.changed.wait()

    def close_endpoint(self, endpoint: str, *, connecting: bool) -> None:
        """Close what is bound or connected to an endpoint; ``ConfigurationError`` if nothing is."""
        endpoint = full_endpoint(endpoint)
        candidates = [r for r in self.receivers if r.connecting is connecting]
        found = [r for r in candidates if endpoint in (r.requested, r.port.endpoint)]
        asleep = connecting and endpoint in self.asleep
        if asleep:
            del self.asleep[endpoint]
            self._weights.pop(endpoint, None)
        for receiver in found:
            self.close(receiver)
        if not found and not asleep:
            known = [receiver.port.endpoint for receiver in candidates]
            if connecting:
                known += self.asleep
            raise ConfigurationError(
                f"{endpoint!r} is not {'connected' if connecting else 'bound'}; "
                f"{', '.join(known) or 'nothing'} is"
            )

    def close(self, receiver: PortReceiver, linger: float | None = None) -> None:
        """Say goodbye on a port's links and close it. Idempotent."""
        self._by_port.pop(receiver.port, None)
        receiver.closed = True
        if receiver.connecting and not receiver.retiring:  # else another one takes its place
            self._weights.pop(receiver.requested, None)
        receiver.pausing.cancel()
        for link in list(receiver.links.values()):
            link.say_goodbye("closing")
        for lead in self._peer.workers.leads_of(receiver.port):
            for behind in list(lead.backlog):  # whose connections have ended before
                behind.lose("this side closed it")
        receiver.port.close(linger)
        receiver.note_change()
        self._table.tell()

    def close_all(self, linger: float | None = None) -> None:
        """Close every port and forget those that are asleep."""
        self.asleep.clear()
        for receiver in list(self.receivers):
            self.close(receiver, linger)

    def connected(self) -> dict[str, str]:
        """Return the endpoints that are connected, or are being connected, with the id of the peer if there is a link."""
        found = dict.fromkeys(self.asleep, "")
        for receiver in self.receivers:
            if receiver.connecting and not receiver.retiring:
                linked = [link.peer_id for link in receiver.links.values() if link.is_open]
                found[receiver.requested] = linked[0] if linked else found.get(receiver.requested, "")
        return found

    def leave(self, endpoint: str) -> None:
        """Leave the links to an endpoint in order, and connect there no more."""
        self.asleep.pop(endpoint, None)
        for receiver in list(self.receivers):
            if receiver.connecting and receiver.requested == endpoint and not receiver.retiring:
                linked = [link for link in receiver.links.values() if link.is_open]
                for link in linked:
                    link.part()
                if not linked:
                    self.close(receiver)

    def weigh(self, endpoint: str, weight: float) -> None:
        """Say how many calls the peer at an endpoint is to get, as a multiple of what others get."""
        if weight == 1.0:
            self._weights.pop(endpoint, None)
        else:
            self._weights[endpoint] = weight
        for receiver in self.receivers:
            if receiver.connecting and receiver.requested == endpoint:
                for link in receiver.links.values():
                    self._table.note_change(link)

    def weight_of(self, link: Session) -> float:
        """Return how many calls the peer of a link is to get, as a multiple of what others get."""
        if not self._weights:
            return 1.0
        receiver = self.receiver_of(link)
        return 1.0 if receiver is None else self._weights.get(receiver.requested, 1.0)

    # -- one link after another ------------------------------------------------------------------------

    def receiver_of(self, link: Session) -> PortReceiver | None:
        """Return the port that a link came by; ``None`` if it is closed."""
        return self._by_port.get(link.port)

    def link_opened(self, link: Session) -> None:
        """A handshake is done, or the other side offers something else."""
        receiver = self.receiver_of(link)
        if receiver is not None:
            receiver.refusal = None
            receiver.note_change()

    def retire(self, link: Session, *, idle: bool) -> None:
        """No new calls go over a link any more: connect anew beside it, at once or when there is need."""
        receiver = self.receiver_of(link)
        if receiver is None or not receiver.connecting or receiver.retiring:
            return
        receiver.retiring = True
        if self._peer.is_closed:
            return
        now = trio.current_time()
        succession = receiver.succession
        # Who leaves links itself, for their age, knows how often.
        pause = 0.0 if link.is_left else succession.pause(now - link.made_at)
        if idle:
            self.asleep[receiver.requested] = succession, now + pause
        else:
            endpoint = receiver.requested
            receiver.successor = self._open(endpoint, connecting=True, succession=succession, pause=pause)
            receiver.note_change()
        too_many = succession.left(link)
        if too_many is not None:
            too_many.say_goodbye("closing", "too many links that were left are still open")

    def part(self, link: Session) -> None:
        """No new calls go over a link any more, and it is not to be connected anew."""
        receiver = self.receiver_of(link)
        if receiver is not None and receiver.connecting and not receiver.retiring:
            receiver.retiring = True
            self._weights.pop(receiver.requested, None)

    def link_over(self, link: Session) -> None:
        """Forget a link; a port that waited for its end is closed."""
        receiver = self.receiver_of(link)
        if receiver is None:
            return
        receiver.links.pop(link.carrier, None)
        if link.refusal is not None:
            receiver.refusal = link.refusal
            receiver.note_change()
        if receiver.retiring and not receiver.links:
            self.close(receiver)

    def wake(self) -> None:
        """Connect again what went to sleep because it was idle."""
        now = trio.current_time()
        for endpoint, (succession, since) in list(self.asleep.items()):
            self._open(endpoint, connecting=True, succession=succession, pause=max(0.0, since - now))

    @property
    def is_hopeful(self) -> bool:
        """Whether a link is to be expected, and no attempt has failed so far."""
        return any(receiver.is_hopeful for receiver in self.receivers)

    @property
    def is_connecting(self) -> bool:
        """Whether a link is to be expected that is not there yet."""
        return any(r.connecting and not r.is_linked for r in self.receivers)

    @property
    def is_unauthenticated(self) -> bool:
        """Whether all links that are to be expected are refused, because it is not proved who one of the sides is."""
        expected = [r for r in self.receivers if r.connecting and not r.is_linked]
        return bool(expected) and all(receiver.is_unauthenticated for receiver in expected)

    @property
    def is_bound(self) -> bool:
        """Whether others may connect to this peer."""
        return any(not receiver.connecting for receiver in self.receivers)

    def situation(self) -> list[str]:
        """Say of every endpoint that should be linked and is not why that is."""
        return [
            f"{receiver.requested} is not linked ({receiver.why_not()})"
            for receiver in self.receivers
            if receiver.connecting and not receiver.is_linked
        ]
