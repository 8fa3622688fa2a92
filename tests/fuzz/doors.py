"""Fuzzing of the doors of services, through which strangers come: DNS and HTTP of discovery.

Inputs are sensible ones that were changed at random, by a seed; whatever comes is answered as the protocol says, or not at all,
and what is sensible is answered after it as before.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import dns.message
import trio
import trio.testing

from duplex_services._shared._http_server import HttpLimits, HttpServer, _Connection, _Gone
from duplex_services.discovery import Directory, DnsOptions, HttpOptions, Reading
from duplex_services.discovery._dns._server import DnsFront
from duplex_services.discovery._http._handlers import Handlers
from duplex_services.discovery._http._words import refusal
from duplex_services.discovery._reading import Freshness
from tests.services.discovery.entries import Told, config, instance, leader, metadata

#: Takes an input; returns what is wrong, or nothing.
Door = Callable[[bytes], Awaitable[str]]

NAMES: Final = (
    "web.discoverd.",
    "_web._tcp.discoverd.",
    "leader.web.discoverd.",
    "a.web._i.discoverd.",
    "x.example.",
    ".",
)
BODIES: Final = (
    b"{}",
    b'{"leader_type":"manual"}',
    b'{"data":{"a":[1,2.5,null]},"index":3,"leader_id":"a"}',
    b'{"addr":"[::1]:80","proto":"http","meta":{"a":"b"},"ttl":5,"check":{"kind":"http"}}',
)
PATHS: Final = (
    "/services",
    "/services/web",
    "/v1/services/web/instances?state=all&meta.a=b",
    "/services/web/instances/a",
    "/v1/services/web/instances/a/explanation",
    "/v1/services/web/leader?index=1&wait=0",
    "/services/web/meta",
    "/.well-known/status",
)


def known() -> Reading:
    """A service with two instances, a leader and metadata."""
    told = Told()
    told(instance("a", 2), instance("b", 3, host="fd00::1"), config(4), leader("a", 5), metadata({"k": 1}, 6))
    return Reading(told.view, Freshness)


class Nobody:
    """Takes all changes, and makes none."""

    async def nothing(self, *words: Any) -> int:
        return 1

    add = remove = set_metadata = set_leader = heartbeat = deregister = nothing


class Unchanged:
    """A directory that stays as it is."""

    def __init__(self) -> None:
        self.reading = known()
        self.instances = self.services = Nobody()


def dns_door() -> tuple[Door, list[bytes]]:
    """A front, and queries that make sense."""
    front = DnsFront(known(), DnsOptions(), ())
    good = [
        dns.message.make_query(name, rtype, use_edns=edns).to_wire()
        for name, rtype, edns in itertools.product(NAMES, ("A", "SRV", "ANY", "SOA", "TXT"), (False, 0, 1))
    ]

    async def send(data: bytes) -> str:
        for is_tcp in (False, True):
            answer = front.answer(data, "127.0.0.1", is_tcp=is_tcp)
            if answer is None:
                return "it asks recursors, of which there are none"
            if not answer:
                continue
            dns.message.from_wire(answer)
            if answer[:2] != data[:2] or not answer[2] & 0x80 or (len(answer) > 1232 and not is_tcp):
                return f"it answers {answer!r}"
        return ""

    return send, good


def http_door() -> tuple[Door, list[bytes]]:
    """A front, and requests that make sense."""
    handlers = Handlers(cast(Directory, Unchanged()), HttpOptions())
    server = HttpServer(handlers.handle, refusal, HttpLimits(body=4096, head=4096), None)
    good = [
        f"GET {path} HTTP/1.1\r\nHost: here\r\nAccept: {accept}\r\n\r\n".encode()
        for path, accept in itertools.product(PATHS, ("application/json", "text/event-stream"))
    ]
    for path, body in itertools.product(PATHS, BODIES):
        head = f"PUT {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n".encode()
        good.append(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        good.append(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")

    async def send(data: bytes) -> str:
        ours, theirs = trio.testing.memory_stream_pair()
        received = bytearray()

        async def read() -> None:
            async for chunk in ours:
                received.extend(chunk)

        with trio.move_on_after(20) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await ours.send_all(data)
                await ours.send_eof()
                with contextlib.suppress(_Gone):
                    await _Connection(server, theirs, "127.0.0.1").run(is_welcome=True)
                await theirs.aclose()
        if scope.cancelled_caught:
            return "it neither answers nor closes"
        if received and not received.startswith(b"HTTP/1.1 "):
            return f"it answers {bytes(received)!r}"
        return ""

    return send, good


DOORS: Final[Mapping[str, Callable[[], tuple[Door, list[bytes]]]]] = {"dns": dns_door, "http": http_door}


class Errors(logging.Handler):
    """What was said of errors, which nobody is told of otherwise."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


def change(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return an input with some bytes changed, taken out, doubled, or put in from another one."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(found) + 1)
        size = chance.randrange(1, 9)
        match chance.randrange(5):
            case 0 if found:
                found[at % len(found)] = chance.randrange(256)
            case 1:
                del found[at : at + size]
            case 2:
                found[at:at] = found[at : at + size] * chance.randrange(1, 4)
            case 3:
                other = chance.choice(others)
                begin = chance.randrange(len(other))
                found[at : at + size] = other[begin : begin + 2 * size]
            case _ if found:
                found[at % len(found)] ^= 1 << chance.randrange(8)
    return bytes(found)


def run(name: str, inputs: int, seed: int) -> tuple[int, list[str]]:
    """Give a door so many inputs; return how many it took, and what is wrong."""
    chance = random.Random(seed)

    errors = Errors()

    async def main() -> tuple[int, list[str]]:
        door, good = DOORS[name]()
        for number in range(inputs):
            data = (
                change(chance, chance.choice(good), good) if number % 100 else good[number // 100 % len(good)]
            )
            try:
                wrong = await door(data)
            except Exception as error:
                wrong = f"it fails: {error!r}"
            if wrong or errors.texts:
                return number + 1, [f"{data!r}: {wrong}", *errors.texts]
        return inputs, []

    log = logging.getLogger("duplex")
    log.addHandler(errors)
    try:
        return trio.run(main)
    finally:
        log.removeHandler(errors)
