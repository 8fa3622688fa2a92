"""What listens at an endpoint, found out beside connecting to it, so that a command need not wait to say so."""

from __future__ import annotations

import random
from typing import Final

import trio

import duplex
from duplex.cli._report import tell
from duplex.cli._tls_options import tls
from duplex.resolvers import Known, is_looked_up
from duplex.transports import full_endpoint
from duplex.transports.streams import Examination
from duplex.transports.streams._examining import SCHEMES

#: Seconds after which it is looked why there is no link yet.
_PATIENCE: Final = 0.05


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
    link: duplex.Link | None = None
    problem: duplex.DuplexError | None = None
    verdict: str | None = None
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            nonlocal verdict
            # Mostly there is a link before, and the other side has one connection less to look at.
            await trio.sleep(_PATIENCE)
            found = Examination(endpoint, tls())
            await found.run()
            if found.problem is not None:
                verdict = verdict_on(found, endpoint)
                nursery.cancel_scope.cancel()

        if full_endpoint(endpoint).partition("://")[0] in SCHEMES:
            nursery.start_soon(look)
        try:
            link = await peer.connect(endpoint, timeout=timeout)
        except duplex.DuplexError as error:
            # Raised below: a nursery would wrap it in a group.
            problem = error
        nursery.cancel_scope.cancel()
    if link is not None:
        return link
    if verdict is not None:
        raise duplex.ConnectError(verdict)
    assert problem is not None
    raise problem


def verdict_on(found: Examination, endpoint: str) -> str:
    """Return why an endpoint cannot be linked, in a sentence."""
    if found.step == "address":
        return f"the host of {endpoint} cannot be found: {found.problem}"
    if found.step == "connection":
        return f"nothing listens at {endpoint}: {found.problem}"
    return f"no link to {endpoint}: {found.problem}"
