"""Other servers, which are asked about names that are not in the zone."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import trio

import duplex
from duplex_services._shared._addresses import read_address

#: Seconds that one of them may take.
_WITHIN: Final = 2.0
#: Seconds without an answer after which the next one is asked too.
_PATIENCE: Final = 0.3
#: Seconds for which one that has not answered is asked last.
_REST: Final = 30.0

#: Where one listens: an address and a port.
Where: TypeAlias = tuple[str, int]


async def find_recursors(texts: Iterable[str]) -> tuple[Where, ...]:
    """Return where recursors listen; names are looked up, once.

    Args:
        texts: ``HOST``, ``HOST:PORT``, ``IPV6``, ``[IPV6]`` or ``[IPV6]:PORT``.

    Raises:
        duplex.ConfigurationError: one is none of these, or nobody knows its name.
    """
    found: list[Where] = []
    for text in texts:
        host, port = read_address(text, 53)
        if not host:
            raise duplex.ConfigurationError(f"recursor {text!r} has no host")
        try:
            # As bytes: what cannot be encoded as a name of a host is one that nobody has, and not an error of another kind.
            infos = await trio.socket.getaddrinfo(os.fsencode(host), port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise duplex.ConfigurationError(f"recursor {text!r}: {error}") from error
        found.append((str(infos[0][4][0]), port))
    return tuple(found)


class _Asked:
    """A question that is being asked."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.ended = trio.Event()


class Recursors:
    """Those that are asked. One that is dead or slow is asked last for a while, so that it does not hold up each query.

    Args:
        wheres: in the order in which they are to be asked.
    """

    def __init__(self, wheres: Sequence[Where]) -> None:
        self._resting: dict[Where, float] = {}
        #: Questions that are being asked, without their ids.
        self._asked: dict[tuple[bytes, bool], _Asked] = {}
        self.wheres = tuple(wheres)

    def __bool__(self) -> bool:
        return bool(self.wheres)

    async def ask(self, query: bytes, *, is_tcp: bool) -> bytes | None:
        """Ask, unless the same is being asked: then that answer is this one's too. So servers that are recursors of each other ask
        each other once, and not again and again.

        Args:
            query: the message as it came.
            is_tcp: by which way.

        Returns:
            The answer, with the query's id; ``None`` if there is none.
        """
        what = query[2:], is_tcp
        asked = self._asked.get(what)
        if asked is not None:
            await asked.ended.wait()
        else:
            asked = self._asked[what] = _Asked()
            try:
                asked.answer = await self._ask_all(query, is_tcp=is_tcp)
            finally:
                del self._asked[what]
                asked.ended.set()
        return None if asked.answer is None else query[:2] + asked.answer[2:]

    async def _ask_all(self, query: bytes, *, is_tcp: bool) -> bytes | None:
        """Ask one after the other, by the way that the query came: the next one as soon as one has failed, or has not
        answered for a moment. Who had not answered when another one did rests. Returns the first answer.
        """
        found: list[bytes] = []
        asked: dict[Where, float] = {}
        dead: set[Where] = set()
        async with trio.open_nursery() as nursery:

            async def ask(where: Where, ended: trio.Event) -> None:
                asked[where] = trio.current_time()
                answer, is_dead = await _ask(where, query, is_tcp=is_tcp)
                del asked[where]
                if is_dead:
                    dead.add(where)
                else:
                    self._resting.pop(where, None)
                ended.set()
                if answer is not None:
                    found.append(answer)
                    nursery.cancel_scope.cancel()

            for where in in_turn(self.wheres, self._resting, trio.current_time()):
                ended = trio.Event()
                nursery.start_soon(ask, where, ended)
                with trio.move_on_after(_PATIENCE):
                    await ended.wait()
        now = trio.current_time()
        late = {where for where, began in asked.items() if now - began >= _PATIENCE}
        self._resting.update(dict.fromkeys(dead | late, now + _REST))
        return found[0] if found else None


def in_turn(wheres: Sequence[Where], resting: Mapping[Where, float], now: float) -> list[Where]:
    """Return in which order to ask: those that rest come last, the one first whose rest ends first.

    Args:
        wheres: all, in the order that they were given in.
        resting: until when some of them rest.
        now: the time.
    """
    return sorted(wheres, key=lambda where: until if (until := resting.get(where, now)) > now else now)


async def _ask(where: Where, query: bytes, *, is_tcp: bool) -> tuple[bytes | None, bool]:
    """Ask one. Returns its answer, if it is one, and whether it is dead."""
    # A forger of answers has to guess this, and the port.
    id = secrets.token_bytes(2)
    answer = None
    with trio.move_on_after(_WITHIN) as waiting:
        try:
            answer = await (_ask_tcp if is_tcp else _ask_udp)(where, id + query[2:])
        except (OSError, trio.BrokenResourceError):
            return None, True
    if answer is not None and _is_answer(answer, id, query):
        return query[:2] + answer[2:], False
    return None, waiting.cancelled_caught


def _is_answer(answer: bytes, id: bytes, query: bytes) -> bool:
    if len(answer) < 12 or answer[:2] != id or not answer[2] & 0x80:
        return False
    # SERVFAIL and REFUSED are no help; another may know.
    if answer[3] & 0xF in {2, 5}:
        return False
    # The question is repeated, unless there is none.
    end = query.find(b"\x00", 12) + 5
    return answer[12:end].lower() == query[12:end].lower()


async def _ask_udp(where: Where, query: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as asking:
        # Connected, so that only this recursor's answers come.
        await asking.connect(where)
        await asking.send(query)
        while True:
            answer = await asking.recv(65535)
            if answer[:2] == query[:2]:
                return answer


async def _ask_tcp(where: Where, query: bytes) -> bytes | None:
    async with await trio.open_tcp_stream(*where) as stream:
        await stream.send_all(len(query).to_bytes(2, "big") + query)
        received = bytearray()
        while True:
            size = 2 + int.from_bytes(received[:2], "big") if len(received) >= 2 else 65537
            if len(received) >= size:
                return bytes(received[2:size])
            chunk = await stream.receive_some(65536)
            if not chunk:
                return None
            received += chunk
