"""Other servers, which are asked about names that are not in the zone."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import trio

import duplex
from duplex_services._shared._addresses import read_address

#: Seconds that one of them may take.
_WITHIN: Final = 2.0

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
            infos = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise duplex.ConfigurationError(f"recursor {text!r}: {error}") from error
        found.append((str(infos[0][4][0]), port))
    return tuple(found)


async def recurse(recursors: Sequence[Where], query: bytes, *, is_tcp: bool) -> bytes | None:
    """Ask one recursor after the other, by the way that the query came.

    Args:
        recursors: whom.
        query: the message as it came.
        is_tcp: by which way.

    Returns:
        The first answer, with the query's id; ``None`` if there is none.
    """
    for where in recursors:
        # A forger of answers has to guess this, and the port.
        id = secrets.token_bytes(2)
        answer = None
        with trio.move_on_after(_WITHIN):
            try:
                ask = _ask_tcp if is_tcp else _ask_udp
                answer = await ask(where, id + query[2:])
            except (OSError, trio.BrokenResourceError):
                continue
        if answer is not None and _is_answer(answer, id, query):
            return query[:2] + answer[2:]
    return None


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
