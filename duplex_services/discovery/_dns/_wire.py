"""DNS messages as bytes: queries that come, and answers that are put together from records that are kept as bytes.

Nearly all queries are one question with at most an EDNS record behind it, and are read here; what is anything else is left to
dnspython. Records begin with a pointer to the question's name, so they are the same bytes however that was spelt.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import dns.message
import dns.opcode
import msgspec

#: Of a message without EDNS over UDP.
PLAIN_UDP: Final = 512
MAX_TCP: Final = 65535

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16

A: Final = 1
NS: Final = 2
SOA: Final = 6
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

IN: Final = 1

_QR: Final = 0x8000
_OPCODE: Final = 0x7800
_AA: Final = 0x0400
_TC: Final = 0x0200
_RD: Final = 0x0100
_RA: Final = 0x0080
_CD: Final = 0x0010
_DO: Final = 0x8000

_HEADER: Final = struct.Struct(">HHHHHH")
_TYPE_CLASS: Final = struct.Struct(">HH")
_OPT: Final = struct.Struct(">HHBBHH")
_RECORD: Final = struct.Struct(">HHIH")

#: Where the question's name is: behind the header.
TO_QUESTION: Final = b"\xc0\x0c"


class Query(msgspec.Struct, frozen=True, gc=False):
    """A query that makes sense.

    Attributes:
        id: to be repeated.
        flags: of the header.
        question: name, type and class as they came, the name without pointers.
        type: what records are wanted.
        qclass: of which class.
        edns: the version of EDNS; ``None`` if there is none.
        payload: bytes of an answer that the client takes over UDP.
        do: whether it wants signatures, which is repeated.
    """

    id: int
    flags: int
    question: bytes
    type: int
    qclass: int
    edns: int | None = None
    payload: int = PLAIN_UDP
    do: bool = False

    @property
    def labels(self) -> list[str]:
        """The name's labels in lower case, without the last one, which is empty."""
        found, at, wire = [], 0, self.question
        while size := wire[at]:
            found.append(wire[at + 1 : at + 1 + size].decode("latin-1").lower())
            at += size + 1
        return found


class Bad(msgspec.Struct, frozen=True):
    """A query that is answered with an error.

    Attributes:
        id: to be repeated.
        flags: of the header.
        rcode: why.
    """

    id: int
    flags: int
    rcode: int


def read_query(data: bytes) -> Query | Bad | None:
    """Return what a client asks; ``None`` if it is not to be answered: too short, or an answer itself."""
    if len(data) < _HEADER.size:
        return None
    id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & _QR:
        return None
    if flags & _OPCODE:
        return Bad(id, flags, NOTIMP)
    if questions != 1:
        return Bad(id, flags, FORMERR)
    if not answers and not authorities and additionals <= 1:
        plain = _plain(data, id, flags, has_edns=additionals == 1)
        if plain is not None:
            return plain
    return _other(data, id, flags)


def _plain(data: bytes, id: int, flags: int, *, has_edns: bool) -> Query | None:
    at, size = _HEADER.size, len(data)
    while at < size and (label := data[at]):
        if label > 63:
            return None
        at += label + 1
    at += 1
    if at + 4 > size or at - _HEADER.size > 255:
        return None
    rtype, qclass = _TYPE_CLASS.unpack_from(data, at)
    at += 4
    question = data[_HEADER.size : at]
    if not has_edns:
        return Query(id, flags, question, rtype, qclass) if at == size else None
    if at + 11 > size or data[at]:
        return None
    kind, payload, _, version, more, length = _OPT.unpack_from(data, at + 1)
    if kind != OPT or at + 11 + length != size:
        return None
    return Query(id, flags, question, rtype, qclass, version, max(PLAIN_UDP, payload), bool(more & _DO))


def _other(data: bytes, id: int, flags: int) -> Query | Bad:
    try:
        message = dns.message.from_wire(data)
        [asked] = message.question
        name = asked.name.to_wire()
        assert name is not None
    except Exception:
        # Whatever a library makes of hostile bytes, it is no query.
        return Bad(id, flags, FORMERR)
    question = name + _TYPE_CLASS.pack(asked.rdtype, asked.rdclass)
    has_edns = message.edns >= 0
    return Query(
        id,
        flags,
        question,
        int(asked.rdtype),
        int(asked.rdclass),
        message.edns if has_edns else None,
        max(PLAIN_UDP, message.payload) if has_edns else PLAIN_UDP,
        bool(message.ednsflags & _DO),
    )


# ------------------------------------------------------------------------------------------------ answers


def to_name_end(query: Query, size: int) -> bytes:
    """Return a pointer to the last ``size`` bytes of the question's name."""
    return (0xC000 | _HEADER.size + len(query.question) - _TYPE_CLASS.size - size).to_bytes(2, "big")


def record(rtype: int, ttl: int, data: bytes, owner: bytes = TO_QUESTION) -> bytes:
    """Return a record as bytes."""
    return owner + _RECORD.pack(rtype, IN, ttl, len(data)) + data


def error(bad: Bad) -> bytes:
    """Return the answer to a query that could not be read."""
    return _HEADER.pack(bad.id, _answered(bad.flags, bad.rcode), 0, 0, 0, 0)


def _answered(flags: int, rcode: int) -> int:
    return _QR | flags & (_OPCODE | _RD | _CD) | rcode & 0xF


class Room:
    """The bytes of one answer, until it is full.

    Args:
        query: what is answered.
        limit: bytes that the client takes by this way.
        payload: bytes that this server takes, told to who speaks EDNS.
        recurses: whether other names can be asked for too.
    """

    __slots__ = ("_counts", "_flags", "_left", "_parts", "_payload", "_query")

    def __init__(self, query: Query, limit: int, payload: int, *, recurses: bool) -> None:
        self._query = query
        self._payload = payload
        self._flags = _answered(query.flags, 0) | (_RA if recurses else 0)
        self._left = limit - _HEADER.size - len(query.question) - (0 if query.edns is None else 11)
        self._parts: list[bytes] = []
        self._counts = [0, 0, 0]

    @property
    def left(self) -> int:
        """Bytes that are left for records."""
        return self._left

    def put(self, section: int, records: Sequence[bytes]) -> int:
        """Put whole records in, as many as there is room for; the sections in their order: 0 answers, 1 authority, 2
        additional. Returns how many."""
        taken = 0
        for one in records:
            if len(one) > self._left:
                break
            self._left -= len(one)
            self._parts.append(one)
            taken += 1
        self._counts[section] += taken
        return taken

    def end(self, rcode: int, *, authoritative: bool = False, truncated: bool = False) -> bytes:
        """Return the message."""
        query = self._query
        flags = self._flags | rcode & 0xF | (_AA if authoritative else 0) | (_TC if truncated else 0)
        answers, authorities, additionals = self._counts
        tail = b""
        if query.edns is not None:
            tail = b"\x00" + _OPT.pack(OPT, self._payload, rcode >> 4, 0, _DO if query.do else 0, 0)
            additionals += 1
        head = _HEADER.pack(query.id, flags, 1, answers, authorities, additionals)
        return b"".join((head, query.question, *self._parts, tail))
