"""Questions about names, as DNS clients put them to a front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype

from duplex_services.discovery import DnsOptions, Reading, open_dns
from duplex_services.discovery._dns._server import DnsFront
from duplex_services.discovery._reading import Freshness
from tests.machine import within
from tests.services.discovery.entries import Told, config, instance


def told_of(*services: tuple[str, Sequence[dict[str, Any]]]) -> tuple[Told, Reading]:
    """A view with services and their instances."""
    told = Told()
    told(config(1, service="empty"))
    for service, instances in services:
        for fields in instances:
            told(
                instance(
                    fields["id"],
                    told.view.revision + 1,
                    service,
                    **{k: v for k, v in fields.items() if k != "id"},
                )
            )
    return told, Reading(told.view, Freshness)


def many(count: int, length: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{number:0{length}d}",
            "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "port": 7000 + number,
        }
        for number in range(count)
    ]


@asynccontextmanager
async def open_front(reading: Reading, **options: Any) -> AsyncIterator[DnsFront]:
    async with open_dns(reading, "127.0.0.1:0", DnsOptions(**options)) as front:
        yield front


async def ask(
    front: DnsFront | str,
    name: str,
    rtype: str = "A",
    *,
    tcp: bool = False,
    edns: int | None = None,
    payload: int = 1232,
    rclass: str = "IN",
    retries: bool = False,
) -> dns.message.Message:
    host, _, port = (front if isinstance(front, str) else front.addresses[0]).rpartition(":")
    options: dict[str, Any] = {} if edns is None else {"use_edns": edns, "payload": payload}
    query = dns.message.make_query(name, rtype, rclass, **options)
    way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    answer = await way(query, host, port=int(port), timeout=within(5))
    if retries and answer.flags & dns.flags.TC:
        return await ask(front, name, rtype, tcp=True)
    return answer


def shown(answer: dns.message.Message) -> list[str]:
    return sorted(f"{dns.rdatatype.to_text(one.rdtype)} {record}" for one in answer.answer for record in one)
