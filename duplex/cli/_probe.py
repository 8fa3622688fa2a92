"""What listens at an endpoint, found out beside connecting to it, so that a command need not wait to say so."""

from __future__ import annotations

import os
import random
import socket
from typing import Any, Final
from urllib.parse import urlsplit

import trio

import duplex
from duplex.cli._report import tell
from duplex.resolvers import Known, is_looked_up

#: The first byte that every ZeroMQ library sends when it is connected to (ZMTP 3.1, section 2).
_GREETING: Final = b"\xff"


async def connect(peer: duplex.Peer, endpoint: str) -> duplex.Link:
    """Connect as ``peer.connect`` does, but give up at once where nothing listens, or something else does; and of a service
    that is looked up, connect to one instance alone.

    Raises:
        ConnectError: no link; the message says what was found.
        DuplexError: as ``peer.connect`` has it.
    """
    if not is_looked_up(endpoint):
        return await _connect(peer, endpoint, peer.connect_timeout)
    known = await peer.look_up(endpoint)
    if known.problem:
        tell(f"{endpoint}: {known.problem}")
    problem: duplex.DuplexError | None = None
    for address in in_turn(known, random.Random()):
        try:
            # One that hangs must not take the time of all.
            return await _connect(peer, address, peer.connect_timeout / len(known.endpoints))
        except duplex.DuplexError as error:
            problem = problem or error
    assert problem is not None
    count = len(known.endpoints)
    if count == 1:
        raise problem
    raise duplex.ConnectError(f"none of the {count} instances of {endpoint} is linked; the first: {problem}")


def in_turn(known: Known, chance: random.Random) -> list[str]:
    """Return addresses in the order in which they are tried: by chance, those of greater weight rather first."""
    # Efraimidis and Spirakis: the greatest of u ** (1 / weight) is each one's as often as its weight says.
    keyed = [(chance.random() ** (1 / one.weight), one.address) for one in known.endpoints]
    return [address for _, address in sorted(keyed, reverse=True)]


async def _connect(peer: duplex.Peer, endpoint: str, timeout: float) -> duplex.Link:
    probe = Probe(endpoint)
    link: duplex.Link | None = None
    problem: duplex.DuplexError | None = None
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            await probe.run()
            if probe.verdict is not None:
                nursery.cancel_scope.cancel()

        nursery.start_soon(look)
        try:
            link = await peer.connect(endpoint, timeout=timeout)
        except duplex.DuplexError as error:
            # Raised below: a nursery would wrap it in a group.
            problem = error
        nursery.cancel_scope.cancel()
    if link is not None:
        return link
    if probe.verdict is not None:
        raise duplex.ConnectError(probe.verdict)
    if probe.is_silent and isinstance(problem, duplex.ConnectError):
        raise duplex.ConnectError(
            f"no link to {endpoint} within {timeout:g} s: something listens there and does not greet as "
            f"a peer would: it speaks another protocol, such as HTTP, or hangs"
        )
    assert problem is not None
    raise problem


class Probe:
    """Connects to an endpoint by itself and looks whether what answers speaks ZeroMQ's protocol."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        #: Why there is nothing to connect to; ``None`` if that is not known.
        self.verdict: str | None = None
        #: Something accepted the connection, and has said nothing so far.
        self.is_silent = False

    async def run(self) -> None:
        """Look. What is found is in the attributes, also when it is cancelled."""
        addresses = await self._addresses()
        errors = []
        for family, address in addresses:
            with trio.socket.socket(family, socket.SOCK_STREAM) as probe:
                try:
                    await probe.connect(address)
                except OSError as error:
                    errors.append(error)
                    continue
                await self._listen(probe)
                return
        if errors:
            self.verdict = f"nothing listens at {self._endpoint}: {_reason(errors[0])}"

    async def _listen(self, probe: trio.socket.SocketType) -> None:
        self.is_silent = True
        try:
            first = await probe.recv(1)
        except OSError:
            return
        self.is_silent = False
        if first not in (b"", _GREETING):
            self.verdict = f"what listens at {self._endpoint} speaks another protocol than ZeroMQ's"

    async def _addresses(self) -> list[tuple[int, Any]]:
        """Return where to connect to; nowhere, if that cannot be told from the endpoint."""
        # A port of libzmq's is reached as any other is.
        scheme, _, rest = self._endpoint.removeprefix("zmq+").partition("://")
        if scheme == "ipc" and rest:
            return [(socket.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest)]
        if scheme and not rest:
            scheme, rest = "tcp", self._endpoint
        try:
            parts = urlsplit(f"//{rest}")
            host, port = parts.hostname or "127.0.0.1", parts.port
        except ValueError:
            return []
        if scheme != "tcp" or not port:
            return []
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            self.verdict = f"the host of {self._endpoint} cannot be found: {error.strerror}"
            return []
        return [(int(family), address) for family, _, _, _, address in found]


def _reason(error: OSError) -> str:
    # trio says what it connected to, which the message does anyway.
    return os.strerror(error.errno).lower() if error.errno else str(error)
