"""Discovery through DNS, as those see it who send what makes no sense, or too much."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
import trio
import trio.testing

from duplex_services.discovery import DnsOptions
from duplex_services.discovery._dns import _limits as limits
from duplex_services.discovery._dns._server import DnsFront
from tests.machine import fail_after
from tests.services.discovery.names import ask, many, open_front, shown, told_of

# --------------------------------------------------------------------------------------------- bad packets


def header(id: int = 7, flags: int = 0, *counts: int) -> bytes:
    return struct.pack(">HHHHHH", id, flags, *(*counts, 0, 0, 0, 0)[:4])


QUESTION = b"\x03web\x09discoverd\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (header()[:11], None),
        (header(7, 0x8000, 1) + QUESTION, None),
        (header(), dns.rcode.FORMERR),
        (header(7, 0, 2) + QUESTION + QUESTION, dns.rcode.FORMERR),
        (header(7, 0, 1) + QUESTION[:-1], dns.rcode.FORMERR),
        (header(7, 0, 1) + QUESTION + b"more", dns.rcode.FORMERR),
        (header(7, 0, 1) + b"\xc0\x0c\x00\x01\x00\x01", dns.rcode.FORMERR),
        (header(7, 0, 1) + b"\x3fx", dns.rcode.FORMERR),
        (header(7, 0, 1) + (b"\x3f" + b"x" * 63) * 5 + b"\x00\x00\x01\x00\x01", dns.rcode.FORMERR),
        (header(7, 0, 1, 0, 0, 1) + QUESTION + b"\x00\x00\x29\x04\xd0", dns.rcode.FORMERR),
        (header(7, 0x2000, 1) + QUESTION, dns.rcode.NOTIMP),
        (header(7, 0x2800, 1) + QUESTION, dns.rcode.NOTIMP),
        (header(7, 0, 1) + QUESTION[:-4] + b"\x00\xfc\x00\x01", dns.rcode.REFUSED),
        (header(7, 0, 1) + QUESTION[:-1] + b"\x03", dns.rcode.REFUSED),
        (header(7, 0, 1) + QUESTION[:-1] + b"\xff", dns.rcode.NOERROR),
        # A record beside the question that nobody asked for; and a pointer forward, which dnspython refuses.
        (
            header(7, 0, 1, 0, 0, 1) + QUESTION + b"\xc0\x0c\x00\x01\x00\x01\0\0\0\0\0\x04abcd",
            dns.rcode.NOERROR,
        ),
        (
            header(7, 0, 1, 0, 0, 2)
            + QUESTION
            + b"\xc0\x0c\x00\x01\x00\x01\0\0\0\0\0\x04abcd"
            + b"\0\0\x29\x04\xd0\0\0\x80\0\0\0",
            dns.rcode.NOERROR,
        ),
    ],
)
async def test_bad_packets(data: bytes, rcode: int | None) -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        for is_tcp in (False, True):
            answer = front.answer(data, "127.0.0.1", is_tcp=is_tcp)
            if rcode is None:
                assert answer == b""
            else:
                assert answer
                parsed = dns.message.from_wire(answer)
                assert (parsed.id, parsed.rcode()) == (7, rcode)


async def test_whatever_comes_is_answered_or_dropped() -> None:
    _, reading = told_of(("web", many(3)), ("named", [{"id": "a", "host": "db.example.net"}]))
    chance = random.Random(1)
    seeds = [
        dns.message.make_query(name, rtype, use_edns=edns).to_wire()
        for name in ("web.discoverd.", "_web._tcp.discoverd.", "named.discoverd", "example.com.", ".")
        for rtype in ("A", "ANY", "SRV", "SOA")
        for edns in (False, 0)
    ]
    async with open_front(reading) as front:
        for _ in range(3_000):
            data = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.2:
                del data[chance.randrange(len(data)) :]
            for is_tcp in (False, True):
                answer = front.answer(bytes(data), "127.0.0.1", is_tcp=is_tcp)
                assert answer is not None
                if answer:
                    assert answer[:2] == data[:2]
                    dns.message.from_wire(answer)
        assert shown(await ask(front, "web.discoverd.")) == ["A 10.0.0.0", "A 10.0.0.1", "A 10.0.0.2"]


async def test_what_fails_in_one_answer_is_nothing_to_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        with monkeypatch.context() as patch:
            patch.setattr(front._answers, "_make", None)
            assert (await ask(front, "web.discoverd.")).rcode() == dns.rcode.SERVFAIL
        assert shown(await ask(front, "web.discoverd.")) == ["A 10.0.0.0"]
    assert "DNS cannot answer" in caplog.text


async def test_names_that_are_not_there_are_not_remembered() -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        for number in range(500):
            query = dns.message.make_query(f"x{number}.discoverd.", "A").to_wire()
            front.answer(query, "127.0.0.1", is_tcp=False)
        assert len(front._answers._kept) == 0


async def test_many_queries_over_one_connection() -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        port = int(front.addresses[0].rpartition(":")[2])
        query = dns.message.make_query("web.discoverd.", "A").to_wire()
        one = len(query).to_bytes(2, "big") + query
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with fail_after(5):
                await stream.send_all(one * 3 + one[:1])
                await stream.send_all(one[1:])
                received = bytearray()
                while len(received) < 4 * (2 + len(query) + 16):
                    received += await stream.receive_some(65536)
                size = 2 + int.from_bytes(received[:2], "big")
                assert len(received) == 4 * size
                assert all(
                    shown(dns.message.from_wire(bytes(received[n * size + 2 : (n + 1) * size])))
                    == ["A 10.0.0.0"]
                    for n in range(4)
                )
        for bad in (b"\xff\xff" + b"x" * 100, b"\x00\x00", one[:9]):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with fail_after(5):
                    await stream.send_all(bad)
                    await stream.send_eof()
                    assert await stream.receive_some(100) == b""
        assert shown(await ask(front, "web.discoverd.", tcp=True)) == ["A 10.0.0.0"]


async def test_what_cannot_be_sent_is_counted() -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            where = ("127.0.0.1", 9)
            query = dns.message.make_query("web.discoverd.", "A").to_wire()
            async with trio.open_nursery() as nursery:
                front._take(plain, query, [], ("127.0.0.1", 0), nursery)
                assert front.statistics.dropped == 1
                front._send(plain, b"x" * 70_000, [], where)
                assert front.statistics.dropped == 2
        assert repr(front) == f"<DnsFront at {front.addresses[0]}>"


async def test_an_accept_that_fails_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    class Tired(trio.abc.Listener[trio.SocketStream]):
        def __init__(self) -> None:
            self.tries = 0

        async def accept(self) -> trio.SocketStream:
            self.tries += 1
            if self.tries < 3:
                raise OSError(24, "Too many open files")
            return await trio.sleep_forever()

        async def aclose(self) -> None:
            """There is nothing to close."""

    front = DnsFront(told_of()[1], DnsOptions(), ())
    tired = Tired()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.serve_tcp, tired, nursery)
        await trio.sleep(1)
        assert tired.tries == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"\0\x20half"])
async def test_who_only_has_connections_keeps_nobody_out(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duplex_services.discovery._dns._server._MOST_CONNECTIONS", 3)
    monkeypatch.setattr("duplex_services.discovery._dns._server._IDLE", 600.0)
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front, contextlib.AsyncExitStack() as stack:
        port = int(front.addresses[0].rpartition(":")[2])
        held = []
        for _ in range(8):
            stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(said)
            held.append(stream)
        with fail_after(10):
            for stream in held[:5]:
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await stream.receive_some(1) == b""
        assert shown(await ask(front, "web.discoverd.", tcp=True)) == ["A 10.0.0.0"]


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.discovery._dns._server._MOST_CONNECTIONS", 2)
    monkeypatch.setattr("duplex_services.discovery._dns._server._IDLE", 0.3)
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        port = int(front.addresses[0].rpartition(":")[2])
        # Those that are being answered wait for no query.
        monkeypatch.setattr(front, "_waiting", _Nothing())
        with fail_after(10):
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as first,
                await trio.open_tcp_stream("127.0.0.1", port) as second,
            ):
                third = await trio.open_tcp_stream("127.0.0.1", port)
                try:
                    assert await third.receive_some(1) == b""
                except trio.BrokenResourceError:
                    pass
                await third.aclose()
                # Who says nothing is closed, and then there is room again.
                assert await first.receive_some(1) == b""
                assert await second.receive_some(1) == b""
            assert shown(await ask(front, "web.discoverd.", tcp=True)) == ["A 10.0.0.0"]


class _Nothing(dict[object, object]):
    """Keeps nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        """Keep nothing."""


# --------------------------------------------------------------------------------------------------- limits


def test_each_network_has_a_budget() -> None:
    budget = limits.Budget(10)
    assert sum(budget.take("192.0.2.1", 5.0) for _ in range(20)) == 10
    assert not budget.take("192.0.2.200", 5.0)
    assert budget.take("192.0.3.1", 5.0)
    assert sum(budget.take("192.0.2.9", 5.5) for _ in range(20)) == 5
    assert all(budget.take("127.0.0.1", 5.0) and budget.take("::1", 5.0) for _ in range(50))
    assert sum(budget.take(f"2001:db8:0:{n:x}::1", 5.0) for n in range(50)) == 10
    assert all(limits.Budget(0).take("192.0.2.1", 0.0) for _ in range(50))
    for number in range(30_000):
        budget.take(f"10.{number >> 8}.{number & 255}.1", 6.0)
    assert len(budget) <= 10_000


async def test_beyond_the_budget_it_is_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "network_of", lambda address: address)
    _, reading = told_of(("web", many(1)))
    async with open_front(reading, rate=2) as front:
        answers = []
        for _ in range(8):
            with trio.move_on_after(0.2):
                answers.append(await ask(front, "web.discoverd."))
        short = [one for one in answers if one.flags & dns.flags.TC]
        assert short
        assert all(not one.answer for one in short)
        assert front.statistics.limited >= len(short)
        assert shown(await ask(front, "web.discoverd.", tcp=True)) == ["A 10.0.0.0"]


# --------------------------------------------------------------------------------------------- real clients
