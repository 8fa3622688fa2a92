"""The handshake of a link, as far as the protocol leaves it open: whether there is to be one, and with whom."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, final

import trio

from duplex._authentication import Authenticator, Handshake
from duplex._config import Keepalive
from duplex._errors import HandshakeError, PermissionDenied, RPCError, Unauthenticated, as_text
from duplex._identity import Identity
from duplex.engine._failure import must_go_on
from duplex.engine._log import clean, logger
from duplex.engine._shares import may_hold_more
from duplex.protocol import Connection, Hello, HelloReceived, LinkOpened, LinkRefused
from duplex.transports import Carrier

#: Seconds that an authenticator has.
WITHIN: Final = 5.0


@final
class Deciding:
    """The connections to a peer for which its authenticator is being asked: as many as it may have links, and of these not all
    for one address.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_address: Counter[str] = Counter()

    def judge(self, address: str) -> tuple[str, str] | None:
        """Return why for one more at an address nobody is asked, or ``None``."""
        there, all_of_them = self._by_address[address], self._by_address.total()
        if may_hold_more(there, all_of_them, self._most):
            return None
        return "limit", (
            f"of {all_of_them} connections, {there} of them with {address}, this peer is still finding out who they are: for more "
            f"it does not (Limits.max_links: {self._most})"
        )

    def begin(self, address: str) -> None:
        """The authenticator is asked for one at an address."""
        self._by_address[address] += 1

    def end(self, address: str) -> None:
        """It has ended."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Judge(Protocol):
    """The links of a peer."""

    @property
    def deciding(self) -> Deciding:
        """Those to be for which the authenticator is being asked."""

    def judge(self, address: str) -> tuple[str, str] | None:
        """Return why a peer at an address, as its carrier tells it, is refused, or ``None``."""


class HandshakeOwner(Protocol):
    """The peer."""

    @property
    def authenticator(self) -> Authenticator | None:
        """Says who others are; ``None``: they are who their connections say."""

    @property
    def keepalive(self) -> Keepalive:
        """How links are watched."""

    @property
    def registry(self) -> Judge:
        """Its links."""

    def spawn(
        self, function: Callable[..., Awaitable[object]], /, *args: Any, name: str | None = None
    ) -> None:
        """Run something until it ends or the peer does."""


class Holding(Protocol):
    """What comes in."""

    def hold(self) -> None:
        """Act on nothing that comes, until :meth:`release`."""

    def release(self) -> None:
        """Act on what has come in the meantime, and on what comes."""


class Sending(Protocol):
    """What goes out."""

    def send_now(self) -> None:
        """Hand everything that is queued to the carrier."""


class NewLink(Protocol):
    """The link."""

    #: Why there is none, for those who wait for it.
    refusal: HandshakeError | None
    #: Why it is over, once it is.
    error: RPCError | None
    #: When its connection was made, as :func:`trio.current_time` counts.
    made_at: float

    @property
    def engine(self) -> HandshakeOwner:
        """This side's engine."""

    @property
    def connection(self) -> Connection:
        """The protocol."""

    @property
    def carrier(self) -> Carrier:
        """What moves its messages."""

    @property
    def endpoint(self) -> str:
        """The endpoint that this side bound or connected."""

    @property
    def connecting(self) -> bool:
        """Whether this side has connected, rather than bound."""

    @property
    def inbound(self) -> Holding:
        """What comes in."""

    @property
    def outbound(self) -> Sending:
        """What goes out."""

    def touch(self) -> None:
        """Note that something was queued."""

    def establish(self, remote: Hello, identity: Identity) -> None:
        """Both sides want the link."""

    def lose(self, reason: str) -> None:
        """The link is over."""

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""


@final
class LinkHandshake:
    """Decides whether there is to be a link.

    The binding side decides before it answers ``HELLO``. The connecting side has been let in when it can decide, and the
    other side may have begun to call by then; so what comes waits.

    Args:
        link: the link.

    Attributes:
        is_deciding: the authenticator is being asked.
    """

    __slots__ = ("_link", "_refusal", "_scope", "_since", "is_deciding")

    def __init__(self, link: NewLink) -> None:
        self._link = link
        self._scope = trio.CancelScope()
        #: Since when the other side is waited for, or this side's authenticator.
        self._since = link.made_at
        self.is_deciding = False
        #: Why all who connect are refused, without finding out who they are.
        self._refusal: tuple[str, str] | None = None

    def refuse(self, reason: str, message: str) -> None:
        """Have the one who connects be refused, without finding out who it is."""
        self._refusal = reason, message

    def on_hello(self, event: HelloReceived) -> None:
        """Somebody who has connected wants a link."""
        link = self._link
        if self._refusal is not None:
            self._turn_away(*self._refusal)
            return
        if self._turn_away_if_full():
            return
        if link.engine.authenticator is None:
            self._accept(event.remote, link.carrier.identity)
            return
        refusal = link.engine.registry.deciding.judge(link.carrier.address)
        if refusal is not None:
            self._turn_away(*refusal)
        else:
            self._begin(link.engine.authenticator, event.remote)

    def on_link_opened(self, event: LinkOpened) -> None:
        """The other side wants the link that this side has asked for."""
        link = self._link
        if link.engine.authenticator is None:
            link.establish(event.remote, link.carrier.identity)
        else:
            link.inbound.hold()
            self._begin(link.engine.authenticator, event.remote)

    def on_refused(self, event: LinkRefused) -> None:
        """One of the sides does not want it, for reasons of the protocol if it is this one."""
        link = self._link
        link.refusal = HandshakeError(event.reason, event.message)
        link.outbound.send_now()  # it may be this side that refuses
        link.lose(str(link.refusal))

    def look(self, now: float) -> None:
        """Give the link up if one of the sides takes too long.

        Args:
            now: the time, as :func:`trio.current_time` counts.
        """
        link = self._link
        within = link.engine.keepalive.timeout
        if now < self._since + within:
            return
        if not self.is_deciding:
            link.lose(f"it did not greet within {within:g} s")
            return
        # It was cancelled long ago, and is shielded from that, or waits for a thread.
        logger.warning(
            "no link with %s over %s: the authenticator has not ended after %g s, though it was cancelled",
            link.carrier.address,
            link.endpoint,
            within,
        )
        self._turn_away("auth", _not_within(within))

    def over(self) -> None:
        """The link is over: nobody needs to know any more whose it was."""
        self._scope.cancel()

    def _begin(self, authenticator: Authenticator, remote: Hello) -> None:
        link = self._link
        self.is_deciding = True
        self._since = trio.current_time()
        link.engine.registry.deciding.begin(link.carrier.address)
        link.engine.spawn(self._decide, authenticator, remote, name="duplex authenticator")

    async def _decide(self, authenticator: Authenticator, remote: Hello) -> None:
        link = self._link
        handshake = Handshake(
            peer_id=remote.peer_id,
            peer_name=remote.name,
            credentials=remote.credentials,
            identity=link.carrier.identity,
            address=link.carrier.address,
            endpoint=link.endpoint,
            connecting=link.connecting,
        )
        found: Identity | str = ""
        try:
            with self._scope:
                found = await authenticate(
                    authenticator, handshake, min(WITHIN, link.engine.keepalive.timeout)
                )
        finally:
            link.engine.registry.deciding.end(handshake.address)
        self.is_deciding = False
        if link.error is not None:
            return
        if isinstance(found, str):
            who = clean(remote.name or remote.peer_id)
            logger.warning(
                "no link with %s at %s over %s: %s", who, link.carrier.address, link.endpoint, found
            )
            self._turn_away("auth", found)
        elif link.connecting:
            link.establish(remote, found)
            link.inbound.release()
        elif not self._turn_away_if_full():
            self._accept(remote, found)

    def _accept(self, remote: Hello, identity: Identity) -> None:
        self._link.connection.accept()
        self._link.establish(remote, identity)
        self._link.touch()

    def _turn_away_if_full(self) -> bool:
        """Refuse a link for which there is no room, or no more time; tell whether that was done."""
        refusal = self._link.engine.registry.judge(self._link.carrier.address)
        if refusal is not None:
            self._turn_away(*refusal)
        return refusal is not None

    def _turn_away(self, reason: str, message: str) -> None:
        link = self._link
        if link.connecting:
            link.refusal = HandshakeError(reason, f"by this side, of the other one: {message}")
            link.say_goodbye(reason, message)
        else:
            link.connection.refuse(reason, message)
            link.outbound.send_now()
            link.lose(f"refused: {message}")


async def authenticate(authenticator: Authenticator, handshake: Handshake, within: float) -> Identity | str:
    """Return who a peer is, or, in words for it, why it is to have no link.

    Args:
        authenticator: is asked.
        handshake: what is known.
        within: seconds that it has.
    """
    with trio.move_on_after(within):
        try:
            found: object = await _ask(authenticator, handshake)
        except BaseException as error:
            if must_go_on(error):
                raise
            return _why(error)
        if isinstance(found, Identity):
            return found
        return _failed(f"returned a {type(found).__name__}, which is no duplex.Identity", None)
    return _not_within(within)


def _why(error: BaseException) -> str:
    if isinstance(error, (Unauthenticated, PermissionDenied)):
        # It is the program's, and may be odd.
        return clean(as_text(error.message)) or error.default_code.name
    return _failed("failed", error)


def _not_within(seconds: float) -> str:
    return f"it could not be found out within {seconds:g} s who the other side is"


@trio.lowlevel.disable_ki_protection
async def _ask(authenticator: Authenticator, handshake: Handshake) -> object:
    return await authenticator(handshake)


def _failed(how: str, error: BaseException | None) -> str:
    incident = secrets.token_hex(6)
    logger.error("incident %s: the authenticator %s", incident, how, exc_info=error)
    return (
        f"it could not be found out who the other side is; the log of this one has it as incident {incident}"
    )
