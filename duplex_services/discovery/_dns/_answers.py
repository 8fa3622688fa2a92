"""What the directory says to a query, with the records of each name kept as bytes until its instances change."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

import dns.exception
import dns.name
import msgspec

import duplex
from duplex_services.discovery._dns import _wire as wire
from duplex_services.discovery._dns._asking import Asked, find_instance, id_label, read_name
from duplex_services.discovery._dns._options import DnsOptions, DnsStatistics
from duplex_services.discovery._model import Instance
from duplex_services.discovery._reading import Reading

#: Names and types whose records are kept.
_MOST_KEPT: Final = 4096

#: A name below the zone may have two labels of 63 bytes and ``_i`` before it, and 255 bytes in all.
_MOST_ZONE: Final = 255 - 64 - 64 - 3

_SRV: Final = struct.Struct(">HHH")
_SOA: Final = struct.Struct(">IIIII")
_REFRESH, _RETRY, _EXPIRE = 3600, 600, 86400

#: What is behind an answer: the instances that it was made from. While it is the same object, so is the answer.
_Source: TypeAlias = tuple[Instance, ...] | Instance | None


class Kept(msgspec.Struct, frozen=True):
    """An answer, but for what is different each time: question, order, and how much there is room for.

    Attributes:
        asked: what it answers; ``None`` for a name that is never there.
        source: what it was made from.
        rcode: whether there is such a name.
        records: of the answer.
        beside: for each of them, the addresses of its target, or nothing; empty if none has any.
        shortest: bytes of the shortest record.
    """

    asked: Asked | None
    source: _Source
    rcode: int
    records: tuple[bytes, ...] = ()
    beside: tuple[bytes, ...] = ()
    shortest: int = 1


def parse_zone(text: str) -> dns.name.Name:
    """Return the name of a zone.

    Raises:
        duplex.ConfigurationError: it is none, or too long for what is to be below it.
    """
    try:
        zone = dns.name.from_text(text.lower())
    except (dns.exception.DNSException, UnicodeError) as error:
        raise duplex.ConfigurationError(f"zone {text!r} is no name of a domain: {error}") from error
    if zone == dns.name.root or len(zone.to_wire() or b"") > _MOST_ZONE:
        raise duplex.ConfigurationError(
            f"zone {text!r} must be below the root, and have at most {_MOST_ZONE} bytes"
        )
    return zone


class Answers:
    """Answers queries from the directory.

    Args:
        reading: what is known.
        options: how it is told.
        statistics: counted there.
    """

    def __init__(self, reading: Reading, options: DnsOptions, statistics: DnsStatistics) -> None:
        self._reading = reading
        self._view = reading.view
        self._options = options
        self._statistics = statistics
        zone = parse_zone(options.zone)
        self._zone = zone.to_wire() or b""
        self._zone_labels = [label.decode("latin-1").lower() for label in zone.labels[:-1]]
        self._kept: dict[tuple[bytes, int, bool], Kept] = {}
        self._random = random.Random()

    def is_ours(self, labels: Sequence[str]) -> bool:
        """Whether a name is in the zone."""
        return list(labels[-len(self._zone_labels) :]) == self._zone_labels

    def answer(self, query: wire.Query, *, is_tcp: bool, recurses: bool, now: float) -> bytes | None:
        """Return the answer to a query; ``None`` if it is for a recursor.

        Args:
            query: what is asked.
            is_tcp: whether it came by TCP, where all is told.
            recurses: whether who asks may ask the recursors.
            now: seconds since 1970, for the serial number of the zone.
        """
        limit = wire.MAX_TCP if is_tcp else min(query.payload, self._options.max_udp)
        room = wire.Room(query, limit, self._options.max_udp, recurses=recurses)
        if query.edns:
            return self._refuse(room, wire.BADVERS)
        key = query.question[:-4].lower(), query.type, is_tcp
        kept = self._kept.get(key)
        if kept is None or query.qclass != wire.IN:
            labels = query.labels
            if not self.is_ours(labels):
                return None if recurses else self._refuse(room, wire.REFUSED)
            if query.qclass not in {wire.IN, wire.ANY} or query.type in {wire.AXFR, wire.IXFR}:
                return self._refuse(room, wire.REFUSED)
            asked = read_name(labels[: -len(self._zone_labels)])
        else:
            asked = kept.asked
        if not self._reading.is_known:
            # Nothing has been read yet, which does not mean that there is nothing.
            return self._refuse(room, wire.SERVFAIL)
        source = self._source(asked)
        if kept is None or kept.source is not source:
            kept = self._make(asked, source, query.type, is_tcp=is_tcp)
            if kept.records:
                # Names that are not there are as many as somebody likes.
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = kept
        self._statistics.answers += 1
        return self._tell(kept, room, query, int(now))

    def _refuse(self, room: wire.Room, rcode: int) -> bytes:
        self._statistics.refused += 1
        return room.end(rcode)

    def _source(self, asked: Asked | None) -> _Source:
        """Return the instances that an answer is made from; ``None`` if there is no such service."""
        view = self._view
        if asked is None or not asked.service or asked.service not in view:
            return None
        if asked.kind in ("service", "protocol"):
            return view.instances(asked.service)
        if asked.kind == "instance":
            return view.all_instances(asked.service)
        if asked.kind == "node":
            return ()
        leader = view.leader(asked.service)
        return () if leader is None or leader.instance is None else leader.instance

    # ---------------------------------------------------------------------------------------- from instances

    def _make(self, asked: Asked | None, source: _Source, rtype: int, *, is_tcp: bool) -> Kept:
        if asked is None or (source is None and asked.service):
            return Kept(asked, source, wire.NXDOMAIN)
        if asked.kind == "zone":
            # The number of the zone is told anew each time, so it is not kept.
            return Kept(asked, source, wire.NOERROR, (b"",) if rtype in {wire.SOA, wire.ANY} else ())
        instances = (source,) if isinstance(source, Instance) else source or ()
        if asked.kind == "protocol":
            instances = tuple(one for one in instances if one.protocol == asked.detail)
        elif asked.kind == "instance":
            one = find_instance(instances, asked.detail)
            instances = () if one is None else (one,)
        records: list[bytes] = []
        beside: list[bytes] = []
        if rtype in {wire.A, wire.AAAA, wire.ANY}:
            records = self._addresses(instances, rtype)
        if rtype == wire.SRV or (rtype == wire.ANY and (is_tcp or not records)):
            for one in instances:
                made = self._srv(one)
                if made is not None:
                    beside += [b""] * (len(records) - len(beside))
                    records.append(made[0])
                    beside.append(made[1] if is_tcp else b"")
        if rtype == wire.ANY and not is_tcp:
            # Who asks for everything by UDP may be forging somebody's address: one kind of record is enough (RFC 8482).
            kind = records[0][2:4] if records else b""
            records = [one for one in records if one[2:4] == kind]
        shortest = min(map(len, records), default=1)
        return Kept(
            asked, source, wire.NOERROR, tuple(records), tuple(beside) if any(beside) else (), shortest
        )

    def _addresses(self, instances: Sequence[Instance], rtype: int) -> list[bytes]:
        found: dict[bytes, None] = {}
        for one in instances:
            packed = _packed(one.host)
            if packed is not None and rtype in {wire.ANY, packed[0]}:
                found[wire.record(packed[0], self._options.ttl, packed[1])] = None
        return list(found)

    def _srv(self, one: Instance) -> tuple[bytes, bytes] | None:
        if not one.port:
            return None
        packed = _packed(one.host)
        if packed is None:
            # A name is its own target; who asks finds its address where it finds others.
            try:
                target = dns.name.from_text(one.host).to_wire() or b""
            except (dns.exception.DNSException, UnicodeError):
                return None
            address = b""
        else:
            labels = (id_label(one.id), one.service, "_i")
            target = b"".join(bytes([len(label)]) + label.encode() for label in labels) + self._zone
            address = wire.record(packed[0], self._options.ttl, packed[1], owner=target)
        near = self._options.near
        priority = 1 if not near or one.zone == near else 2
        data = _SRV.pack(priority, one.weight, one.port) + target
        return wire.record(wire.SRV, self._options.ttl, data), address

    # ------------------------------------------------------------------------------------------- to messages

    def _tell(self, kept: Kept, room: wire.Room, query: wire.Query, now: int) -> bytes:
        if not kept.records:
            # The zone's own record says for how long others may remember that there is nothing.
            room.put(1, (self._soa(query, now, self._options.negative_ttl),))
            return room.end(kept.rcode, authoritative=True)
        if not kept.records[0]:
            room.put(0, (self._soa(query, now, self._options.ttl),))
            return room.end(kept.rcode, authoritative=True)
        many = len(kept.records)
        fitting = min(many, room.left // kept.shortest)
        order = self._random.sample(range(many), fitting) if fitting else []
        taken = room.put(0, [kept.records[number] for number in order])
        if taken < many:
            self._statistics.truncated += 1
        elif kept.beside:
            room.put(2, [kept.beside[number] for number in order if kept.beside[number]])
        return room.end(kept.rcode, authoritative=True, truncated=taken < many)

    def _soa(self, query: wire.Query, now: int, ttl: int) -> bytes:
        zone = wire.to_name_end(query, len(self._zone))
        numbers = _SOA.pack(now & 0xFFFFFFFF, _REFRESH, _RETRY, _EXPIRE, self._options.negative_ttl)
        data = b"\x02ns" + zone + b"\x0apostmaster" + zone + numbers
        return wire.record(wire.SOA, ttl, data, owner=zone)


def _packed(host: str) -> tuple[int, bytes] | None:
    """Return the type and the data of the record of an address; ``None`` for what is none."""
    for rtype, family in ((wire.A, socket.AF_INET), (wire.AAAA, socket.AF_INET6)):
        try:
            return rtype, socket.inet_pton(family, host)
        except OSError:
            continue
    return None
