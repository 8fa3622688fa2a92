"""How names are told."""

from __future__ import annotations

import msgspec


class DnsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the directory is told through DNS.

    Attributes:
        zone: what the names are below.
        ttl: seconds for which others may keep an answer; 0 has them ask each time.
        negative_ttl: the same, for "there is nothing".
        near: a zone of instances (:attr:`Registration.zone`): in SRV answers its instances come first, by priority.
        recursors: ``HOST`` or ``HOST:PORT`` of servers that are asked, one after the other, about all other names. Without
            any these are refused. Only clients with a loopback or private address may ask.
        max_udp: bytes of an answer over UDP, if the client takes that many. More than 1232 may be cut into fragments on
            the way, which some networks lose.
        rate: answers over UDP in a second to one network (/24, or /56 of IPv6) that is not this machine. Of those beyond
            it every second one is empty and says to come by TCP, which no forged address can; the others are dropped.
            0 is no limit.
    """

    zone: str = "discoverd."
    ttl: int = 0
    negative_ttl: int = 0
    near: str = ""
    recursors: tuple[str, ...] = ()
    max_udp: int = 1232
    rate: int = 1000


class DnsStatistics(msgspec.Struct):
    """What a DNS front has done since it began.

    Attributes:
        answers: answers from the directory, over UDP and TCP.
        truncated: answers from which records were left out for want of room.
        refused: queries that make no sense, or are not for this server.
        recursed: queries that a recursor was asked.
        failed: of those, how many none of them answered.
        limited: queries over UDP that came too fast from one network.
        dropped: packets that are no queries, and answers that could not be sent.
    """

    answers: int = 0
    truncated: int = 0
    refused: int = 0
    recursed: int = 0
    failed: int = 0
    limited: int = 0
    dropped: int = 0
