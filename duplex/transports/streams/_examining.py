"""One connection to an endpoint, step by step, for who wants to know why there is none."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal, TypeAlias, final

import trio

from duplex.transports._endpoint import ZMQ, parse_endpoint
from duplex.transports._schemes import full_endpoint
from duplex.transports._tls import TLS
from duplex.transports.streams._contexts import contexts_of
from duplex.transports.streams._dialing import DialError, dial, targets_of
from duplex.transports.streams._farewell import end
from duplex.transports.streams._sockets import Wire
from duplex.transports.streams._tls import TlsError, TlsFacts, TlsWire
from duplex.transports.streams._unsent import Unsent
from duplex.transports.zmtp import Bounds, Null, ZmtpConnection, ZmtpError

#: Endpoints that can be looked at: those of streams, and libzmq's, which speak the same.
SCHEMES: Final = frozenset({"tcp", "tls", "ipc", f"{ZMQ}tcp", f"{ZMQ}ipc"})
#: What is done, in this order. ``tls`` is for ``tls://`` alone.
Step: TypeAlias = Literal["address", "connection", "tls", "zmtp"]

_CHUNK: Final = 64 * 1024
#: What is taken of a server until it has told what it is: no message at all.
_BOUNDS: Final = Bounds(frame=_CHUNK, frames=1, message=_CHUNK, commands=64)


@dataclasses.dataclass(frozen=True, slots=True)
class ZmtpFacts:
    """What a server has told of itself in ZMTP's handshake."""

    #: The version that it speaks, such as ``3.1``; and the mechanism.
    version: str
    mechanism: str
    #: The type of its socket.
    socket: str


@final
class Examination:
    """Connects to an endpoint once, as a peer would, up to the end of ZMTP's handshake, and then leaves.

    Args:
        endpoint: of one of :data:`SCHEMES`.
        tls: whom to trust; ``None`` for whom this system trusts.

    Attributes:
        step: what is done at present, or was done last.
        problem: why it could not be done, in some words; ``None`` if it could, and as long as it is not known.
        is_done: all steps are done.
        addresses: those that the endpoint's host has.
        refusals: why there is no connection to those that were tried in vain.
        connected: the one that there is a connection to.
        has_heard: something has come from there.
        tls: what TLS has agreed on.
        zmtp: what ZMTP has told.

    Raises:
        ConfigurationError: it is no such endpoint, or certificates cannot be read.
    """

    def __init__(self, endpoint: str, tls: TLS | None = None) -> None:
        self._target = parse_endpoint(full_endpoint(endpoint), binding=False, schemes=SCHEMES)
        self._contexts = contexts_of(tls) if self._target.scheme == "tls" else None
        if self._contexts is not None:
            self._contexts.client()
        self.step: Step = "address"
        self.problem: str | None = None
        self.is_done = False
        self.addresses: list[str] = []
        self.refusals: list[str] = []
        self._reasons: list[str] = []
        self.connected: str | None = None
        self.has_heard = False
        self.tls: TlsFacts | None = None
        self.zmtp: ZmtpFacts | None = None

    async def run(self) -> None:
        """Do it. What is found is in the attributes, also when this is cancelled."""
        try:
            targets = await targets_of(self._target)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return
        self.addresses = [target.text for target in targets]
        self.step = "connection"
        for target in targets:
            try:
                dialed = await dial(target)
            except DialError as error:
                self.refusals.append(str(error))
                self._reasons.append(error.why)
                continue
            self.connected = target.text
            wire: Wire = dialed
            try:
                if self._contexts is not None:
                    wire = self._contexts.secured(dialed, self._target.host)
                await self._greet(wire)
            except (TlsError, ZmtpError) as error:
                self.problem = str(error)
            except OSError as error:
                self.problem = f"the connection was ended: {error.strerror or error}"
            finally:
                end(wire)
            return
        self.problem = self._reasons[0]

    async def _greet(self, wire: Wire) -> None:
        zmtp = ZmtpConnection(socket_type="DEALER", mechanism=Null(), before=_BOUNDS, after=_BOUNDS)
        unsent = Unsent()
        self.step = "zmtp" if self._contexts is None else "tls"
        while zmtp.properties is None:
            if zmtp.has_to_send:
                unsent.add([zmtp.data_to_send()])
                unsent.send(wire)
            await trio.lowlevel.wait_readable(wire)
            try:
                data = wire.recv(_CHUNK)
            except BlockingIOError:
                continue
            finally:
                self._note(wire)
            if not data:
                self.problem = "the connection was ended in the middle of the handshake"
                return
            self.has_heard = True
            for _ in zmtp.receive(data):
                pass
        assert zmtp.greeting is not None
        major, minor = zmtp.greeting.version
        self.zmtp = ZmtpFacts(
            f"{major}.{minor}",
            zmtp.greeting.mechanism,
            zmtp.properties.get("socket-type", b"").decode("latin-1"),
        )
        self.is_done = True

    def _note(self, wire: Wire) -> None:
        """See how far TLS has come."""
        if isinstance(wire, TlsWire):
            self.has_heard = wire.has_heard
            if self.tls is None and wire.is_ready:
                self.tls, self.step, self.has_heard = wire.facts(), "zmtp", False
