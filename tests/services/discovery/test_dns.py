"""Discovery through DNS, as clients of it see it: what each name says, what there is room for, recursors."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
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
import pytest
import trio
import trio.testing

import duplex
from duplex_services.discovery import DnsOptions, Reading, Registration, open_directory, open_dns
from duplex_services.discovery._dns._recursors import find_recursors, in_turn
from duplex_services.discovery._dns._server import DnsFront
from duplex_services.discovery._reading import Freshness
from tests.machine import fail_after, require_program, within
from tests.services.discovery.entries import Told, gone, instance, leader
from tests.services.discovery.names import ask, many, open_front, shown, told_of

# ------------------------------------------------------------------------------------------------ the table

SERVICES: list[tuple[str, list[dict[str, Any]]]] = [
    ("one", [{"id": "a", "host": "10.0.0.1", "port": 81}]),
    ("six", [{"id": "a", "host": "fd00::1", "port": 82}]),
    (
        "both",
        [
            {"id": "v4", "host": "10.0.0.2", "port": 83},
            {"id": "v6", "host": "fd00::2", "port": 84, "protocol": "http"},
            {"id": "sick", "host": "10.0.0.9", "port": 85, "health": "critical"},
        ],
    ),
    (
        "many",
        [
            {"id": "a", "host": "10.0.0.3", "port": 86},
            {"id": "b", "host": "10.0.0.3", "port": 87, "weight": 5},
            {"id": "c", "host": "10.0.0.4", "port": 88},
        ],
    ),
    ("sick", [{"id": "a", "host": "10.0.0.5", "port": 89, "mode": "maintenance"}]),
    ("named", [{"id": "a", "host": "db.example.net", "port": 90}]),
]

BOTH = [["10.0.0.2"], ["fd00::2"], ["83 v4.both", "84 v6.both"]]
SOA = "ns.discoverd. postmaster.discoverd."
NOTHING: list[list[str]] = [[], [], []]

#: Name, and its A, AAAA and SRV records (port and target), or nothing if there is no such name.
NAMES: list[tuple[str, list[list[str]] | None]] = [
    ("one", [["10.0.0.1"], [], ["81 a.one"]]),
    ("six", [[], ["fd00::1"], ["82 a.six"]]),
    ("both", BOTH),
    ("many", [["10.0.0.3", "10.0.0.4"], [], ["86 a.many", "87 b.many", "88 c.many"]]),
    ("named", [[], [], ["90 db.example.net."]]),
    ("empty", NOTHING),
    ("sick", NOTHING),
    ("none", None),
    ("_both._tcp", [["10.0.0.2"], [], ["83 v4.both"]]),
    ("_both._http", [[], ["fd00::2"], ["84 v6.both"]]),
    ("_both._udp", NOTHING),
    ("_none._tcp", None),
    ("a.one._i", [["10.0.0.1"], [], ["81 a.one"]]),
    ("sick.both._i", [["10.0.0.9"], [], ["85 sick.both"]]),
    ("no.one._i", NOTHING),
    ("a.none._i", None),
    ("leader.both", [[], ["fd00::2"], ["84 v6.both"]]),
    ("leader.one", NOTHING),
    ("leader.none", None),
    ("a.one", None),
    ("one._i", NOTHING),
    ("_i", NOTHING),
    ("a.b.one._i", None),
]


def expected(rtype: str, records: list[list[str]], *, tcp: bool) -> list[str]:
    a, aaaa, srv = records
    sets = {
        "A": [f"A {one}" for one in a],
        "AAAA": [f"AAAA {one}" for one in aaaa],
        "SRV": [
            "SRV 1 {} {} {}".format(
                5 if one.startswith("87") else 1,
                one.split()[0],
                one.split()[1] if one.endswith(".") else f"{one.split()[1]}._i.discoverd.",
            )
            for one in srv
        ],
    }
    if rtype == "ANY":
        # Over UDP one kind is enough.
        kinds = [found for found in sets.values() if found]
        return sorted(itertools.chain(*kinds)) if tcp else sorted(kinds[0]) if kinds else []
    return sorted(sets.get(rtype, []))


async def test_what_each_name_says() -> None:
    told, reading = told_of(*SERVICES)
    told(leader("v6", 100, service="both"))
    assert len(NAMES) == 23
    tried = 0
    async with open_front(reading) as front:
        for (name, records), rtype, tcp, upper in itertools.product(
            NAMES, ("A", "AAAA", "ANY", "SRV", "SOA", "TXT"), (False, True), (False, True)
        ):
            asked = f"{name}.discoverd."
            asked = asked.upper() if upper else asked
            answer = await ask(front, asked, rtype, tcp=tcp)
            what = f"{asked} {rtype} {'tcp' if tcp else 'udp'}"
            wanted = [] if records is None else expected(rtype, records, tcp=tcp)
            assert shown(answer) == wanted, what
            assert answer.rcode() == (dns.rcode.NXDOMAIN if records is None else dns.rcode.NOERROR), what
            assert dns.flags.to_text(answer.flags) == "QR AA RD", what
            # The spelling is the client's.
            assert answer.question[0].name.to_text() == asked, what
            assert all(one.name.to_text() == asked for one in answer.answer), what
            assert bool(answer.authority) == (not wanted), what
            for soa in answer.authority:
                assert soa.name.to_text() == ("DISCOVERD." if upper else "discoverd."), what
                assert soa[0].to_text().lower().startswith(SOA), what
            beside = {f"{one.name} {one[0]}" for one in answer.additional}
            told_addresses = {one.split()[4] for one in wanted if one.startswith("SRV") and "_i" in one}
            assert {one.split()[0] for one in beside} == (told_addresses if tcp else set()), what
            tried += 1
    assert tried == 23 * 6 * 2 * 2


async def test_the_zone_itself() -> None:
    _, reading = told_of()
    async with open_front(reading, ttl=7, negative_ttl=5) as front:
        answer = await ask(front, "discoverd.", "SOA")
        assert answer.rcode() == dns.rcode.NOERROR
        words = answer.answer[0][0].to_text().split()
        assert words[:2] == SOA.split()
        assert abs(int(words[2]) - time.time()) < within(5)
        assert words[3:] == ["3600", "600", "86400", "5"]
        assert answer.answer[0].ttl == 7
        assert (await ask(front, "discoverd.", "A")).authority[0].ttl == 5
        assert (await ask(front, "discoverd.", "ANY")).answer


async def test_zone_ttl_and_zones_are_settable() -> None:
    _, reading = told_of(
        (
            "web",
            [
                {"id": "a", "host": "10.0.0.1", "zone": "here"},
                {"id": "b", "host": "10.0.0.2", "zone": "there"},
            ],
        )
    )
    async with open_front(reading, zone="Svc.Example", ttl=30, negative_ttl=2, near="there") as front:
        answer = await ask(front, "web.svc.EXAMPLE.", "SRV")
        assert answer.answer[0].ttl == 30
        assert {(str(one.target), one.priority) for one in answer.answer[0]} == {
            ("a.web._i.svc.example.", 2),
            ("b.web._i.svc.example.", 1),
        }
        assert (await ask(front, "none.svc.example.")).authority[0].name.to_text() == "svc.example."
        refused = await ask(front, "web.discoverd.")
        assert refused.rcode() == dns.rcode.REFUSED
        assert not refused.flags & (dns.flags.AA | dns.flags.RA)


async def test_ids_that_are_no_labels() -> None:
    ids = ("Web-1", "10.0.0.1:80", "a" * 100, "plain")
    _, reading = told_of(("web", [{"id": id, "host": f"10.0.0.{n}"} for n, id in enumerate(ids, 1)]))
    async with open_front(reading) as front:
        found = await ask(front, "web.discoverd.", "SRV", tcp=True)
        targets = {str(one.target) for one in found.answer[0]}
        assert len(targets) == 4
        assert "plain.web._i.discoverd." in targets
        addresses = [shown(await ask(front, target)) for target in targets]
        assert sorted(addresses) == [[f"A 10.0.0.{n}"] for n in (1, 2, 3, 4)]
        # Who knows the id may ask for it as it is.
        assert shown(await ask(front, "WEB-1.web._i.discoverd.")) == ["A 10.0.0.1"]


async def test_answers_follow_the_view() -> None:
    told, reading = told_of(("web", many(2)))
    async with open_front(reading) as front:
        assert len(shown(await ask(front, "web.discoverd."))) == 2
        told(instance("new", 50, host="10.1.1.1"))
        assert len(shown(await ask(front, "web.discoverd."))) == 3
        told(instance("new", 51, host="10.1.1.1", mode="draining"), deletes=gone("00000"))
        assert shown(await ask(front, "web.discoverd.")) == ["A 10.0.0.1"]
        assert shown(await ask(front, "new.web._i.discoverd.")) == ["A 10.1.1.1"]
        told(leader("00001", 52))
        assert shown(await ask(front, "leader.web.discoverd.")) == ["A 10.0.0.1"]
        told(instance("00001", 53, host="10.9.9.9", created=4))
        assert shown(await ask(front, "leader.web.discoverd.")) == ["A 10.9.9.9"]
        told(instance("bad", 54, host="a" * 70 + ".example", port=1))
        assert len(shown(await ask(front, "web.discoverd.", "SRV"))) == 1


async def test_nothing_was_ever_read() -> None:
    async with open_front(Reading(Told().view, Freshness)) as front:
        assert (await ask(front, "web.discoverd.")).rcode() == dns.rcode.SERVFAIL


# -------------------------------------------------------------------------------------------------- room


@pytest.mark.parametrize("count", [9, 60, 5000])
async def test_whole_records_and_tc_only_if_some_are_left_out(count: int) -> None:
    name = "s" * 63
    _, reading = told_of((name, many(count, 63)))
    async with open_front(reading, max_udp=4096) as front:
        for rtype, edns in itertools.product(("A", "AAAA", "SRV", "ANY"), (None, 1232, 4096)):
            payload = 512 if edns is None else edns
            answer = await ask(
                front, f"{name}.discoverd.", rtype, edns=None if edns is None else 0, payload=payload
            )
            assert len(answer.to_wire()) <= payload or rtype == "SRV"
            found = len(shown(answer))
            assert bool(answer.flags & dns.flags.TC) == (found < count and rtype != "AAAA"), (rtype, edns)
            assert found >= 1 or rtype == "AAAA"
            assert not answer.additional
        everything = await ask(front, f"{name}.discoverd.", "A", retries=True)
        assert len(shown(everything)) == min(count, (65535 - 12 - 79) // 16)
        truncated = front.statistics.truncated
        targets = await ask(front, f"{name}.discoverd.", "SRV", tcp=True)
        if count == 5000:
            assert bool(targets.flags & dns.flags.TC)
            assert not targets.additional
            assert front.statistics.truncated == truncated + 1
        else:
            assert len(targets.additional) == len(shown(targets)) == count


async def test_the_bytes_on_the_wire_have_their_limit() -> None:
    _, reading = told_of(("web", many(500, 60)))
    async with open_front(reading) as front:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", int(front.addresses[0].rpartition(":")[2])))
            for edns, payload, limit in ((False, 0, 512), (0, 100, 512), (0, 900, 900), (0, 65535, 1232)):
                query = dns.message.make_query("web.discoverd.", "SRV", use_edns=edns, payload=payload)
                client.send(query.to_wire())
                await trio.lowlevel.wait_readable(client)
                answer = client.recv(65535)
                assert limit - 160 < len(answer) <= limit
                parsed = dns.message.from_wire(answer)
                assert parsed.flags & dns.flags.TC
                assert parsed.edns == (-1 if edns is False else 0)
                if edns is not False:
                    assert parsed.payload == 1232


async def test_answers_are_in_another_order_each_time() -> None:
    _, reading = told_of(("web", many(8)))
    async with open_front(reading) as front:
        firsts = {str((await ask(front, "web.discoverd.")).answer[0][0]) for _ in range(60)}
        assert len(firsts) > 3


async def test_edns_versions_and_signatures() -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading) as front:
        assert (await ask(front, "web.discoverd.", edns=1)).rcode() == dns.rcode.BADVERS
        query = dns.message.make_query("web.discoverd.", "A", want_dnssec=True)
        query.use_edns(
            0, dns.flags.DO, 1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]
        )
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=int(front.addresses[0].rpartition(":")[2]))
        assert answer.ednsflags & dns.flags.DO
        assert shown(answer) == ["A 10.0.0.0"]


# --------------------------------------------------------------------------------------------- recursors


def serve_one(reply: Callable[[bytes], bytes | None], count: list[int]) -> Any:
    """A recursor, over UDP and TCP on one port."""

    @asynccontextmanager
    async def open_it() -> AsyncIterator[str]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await udp.bind(("127.0.0.1", port))

        async def by_udp() -> None:
            while True:
                data, where = await udp.recvfrom(4096)
                count[0] += 1
                # Noise that is no answer to anything comes before it.
                await udp.sendto(b"\0\0" + data[2:], where)
                if (answer := reply(data)) is not None:
                    await udp.sendto(answer, where)

        async def by_tcp(stream: trio.SocketStream) -> None:
            data = await stream.receive_some(4096)
            count[0] += 1
            if (answer := reply(bytes(data[2:]))) is not None:
                for part in (len(answer).to_bytes(2, "big"), answer[:5], answer[5:]):
                    await stream.send_all(part)
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(by_udp)
            nursery.start_soon(trio.serve_listeners, by_tcp, listeners)
            yield f"127.0.0.1:{port}"
            nursery.cancel_scope.cancel()
        udp.close()

    return open_it()


def answering(address: str, rcode: int = 0, count: int = 1) -> Callable[[bytes], bytes]:
    def reply(data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query, recursion_available=True)
        answer.set_rcode(dns.rcode.Rcode(rcode))
        if not rcode:
            for number in range(count):
                answer.answer.append(
                    dns.rrset.from_text(query.question[0].name, 60, "IN", "A", f"{address}{number}")
                )
        return answer.to_wire()

    return reply


@pytest.mark.parametrize("tcp", [False, True])
async def test_recursors_are_asked_in_turn(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.discovery._dns._recursors._PATIENCE", within(5))
    _, reading = told_of(("web", many(1)))
    asked = [[0], [0], [0]]
    async with (
        serve_one(answering("1.1.1.", dns.rcode.SERVFAIL), asked[0]) as sick,
        serve_one(answering("2.2.2.", count=40), asked[1]) as good,
        serve_one(answering("3.3.3."), asked[2]) as unused,
    ):
        dead = await closed_port()
        async with open_front(reading, recursors=(dead, sick, good, unused)) as front:
            answer = await ask(front, "example.com.", tcp=tcp)
            # More than 512 bytes, since names are compressed.
            assert len(shown(answer)) == 40
            assert answer.flags & dns.flags.RA
            assert [one[0] for one in asked] == [1, 1, 0]
            own = await ask(front, "web.discoverd.", tcp=tcp)
            assert own.flags & dns.flags.RA
            assert shown(own) == ["A 10.0.0.0"]
        async with open_front(reading, recursors=(dead, sick)) as front:
            failed = await ask(front, "example.com.", tcp=tcp)
            assert failed.rcode() == dns.rcode.SERVFAIL
            assert (front.statistics.recursed, front.statistics.failed) == (1, 1)


async def test_servers_that_are_recursors_of_each_other_ask_each_other_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("duplex_services.discovery._dns._recursors._WITHIN", 0.5)
    _, reading = told_of()
    one, other = await closed_port(), await closed_port()
    async with (
        open_dns(reading, one, DnsOptions(recursors=(other,))) as first,
        open_dns(reading, other, DnsOptions(recursors=(one,))) as second,
    ):
        assert (await ask(first, "example.com.")).rcode() == dns.rcode.SERVFAIL
        assert (first.statistics.recursed, second.statistics.recursed) == (2, 1)


async def test_what_several_ask_at_once_is_asked_once() -> None:
    _, reading = told_of()
    heard = [0]
    async with (
        serve_one(answering("2.2.2."), heard) as good,
        open_front(reading, recursors=(good,)) as front,
    ):
        query = dns.message.make_query("example.com.", "A").to_wire()
        ids = [bytes([number, 7]) for number in range(5)]
        found: dict[bytes, bytes | None] = {}

        async def one(id: bytes) -> None:
            found[id] = await front._recursors.ask(id + query[2:], is_tcp=False)

        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(one, id)
        # Each has the answer under its own id.
        assert all(answer is not None and answer[:2] == id for id, answer in found.items())
        assert heard == [1]
        await one(b"xx")
        assert heard == [2]


async def test_who_cannot_be_asked_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.discovery._dns._server._MOST_RECURSING", 1)
    monkeypatch.setattr("duplex_services.discovery._dns._recursors._WITHIN", 0.5)
    _, reading = told_of()
    heard = [0]
    async with (
        serve_one(lambda data: None, heard) as silent,
        open_front(reading, recursors=(silent,)) as front,
        trio.open_nursery() as nursery,
    ):
        answers: list[dns.message.Message] = []

        async def one() -> None:
            answers.append(await ask(front, "example.com."))

        for _ in range(3):
            nursery.start_soon(one)
        with fail_after(5):
            while len(answers) < 3:
                # The recursor is silent for a real half second.
                await trio.sleep(0.01)
        # One waited for it; there was no room for the others.
        assert [one.rcode() for one in answers] == [dns.rcode.SERVFAIL] * 3
        assert front.statistics.recursed == heard[0] == 1
        # Over TCP nothing at all comes, and half an answer is none.
        assert (await ask(front, "example.com.", tcp=True)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_dead_recursor_holds_up_one_query(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes what it is sent and says nothing: it is waited for a moment, once, and asked last then."""
    monkeypatch.setattr("duplex_services.discovery._dns._recursors._PATIENCE", 0.1)
    _, reading = told_of()
    heard, answered = [0], [0]
    async with (
        serve_one(lambda data: None if not tcp else b"", heard) as silent,
        serve_one(answering("2.2.2."), answered) as good,
        open_front(reading, recursors=(silent, good)) as front,
    ):
        for number in range(1, 6):
            answer = await ask(front, "example.com.", tcp=tcp)
            assert shown(answer) == ["A 2.2.2.0"]
            assert answered[0] == number
        # Over TCP it closes the connection, which is no sign that it is dead.
        assert heard[0] == (5 if tcp else 1)


def test_those_that_rest_are_asked_last() -> None:
    a, b, c = ("a", 53), ("b", 53), ("c", 53)
    assert in_turn((a, b, c), {}, 100.0) == [a, b, c]
    assert in_turn((a, b, c), {a: 130.0, b: 120.0}, 100.0) == [c, b, a]
    assert in_turn((a, b, c), {a: 130.0, b: 120.0}, 125.0) == [b, c, a]
    assert in_turn((a, b, c), {a: 130.0}, 130.0) == [a, b, c]


async def closed_port() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


async def test_only_who_is_near_may_ask_the_recursors() -> None:
    _, reading = told_of(("web", many(1)))
    async with open_front(reading, recursors=(await closed_port(),)) as front:
        query = dns.message.make_query("example.com.", "A").to_wire()
        assert front.answer(query, "10.1.2.3", is_tcp=False) is None
        assert front.answer(query, "fd00::1", is_tcp=False) is None
        refused = front.answer(query, "8.8.8.8", is_tcp=False)
        assert refused
        assert dns.message.from_wire(refused).rcode() == dns.rcode.REFUSED


@pytest.fixture
def dig() -> Callable[..., Any]:
    program = require_program("dig", package="bind9-dnsutils")

    async def run(front: DnsFront, *words: str) -> str:
        host, _, port = front.addresses[0].rpartition(":")
        command = [program, f"@{host}", "-p", port, "+time=5", "+tries=2", *words]
        done = await trio.run_process(command, capture_stdout=True, check=False)
        return done.stdout.decode()

    return run


async def test_dig_shows_everything(dig: Callable[..., Any]) -> None:
    told, reading = told_of(("web", many(60)))
    told(leader("00003", 100))
    async with open_front(reading) as front:
        found = (await dig(front, "+short", "web.discoverd", "SRV")).splitlines()
        assert len(found) == 60
        assert "1 1 7003 00003.web._i.discoverd." in found
        assert (await dig(front, "+short", "leader.web.discoverd")).split() == ["10.0.0.3"]
        everything = await dig(front, "web.discoverd", "ANY")
        assert "ANSWER: 120" in everything
        short = await dig(front, "+noedns", "+ignore", "web.discoverd", "SRV")
        assert "flags: qr aa tc rd" in short
        assert "WARNING" not in await dig(front, "+norec", "web.discoverd")
        assert "status: NXDOMAIN" in await dig(front, "none.discoverd")
        assert "status: BADVERS" in await dig(front, "+edns=5", "+noednsnegotiation", "web.discoverd")
        assert "status: NOTIMP" in await dig(front, "+opcode=4", "web.discoverd")


async def test_the_systems_own_sockets_on_every_address(dig: Callable[..., Any]) -> None:
    _, reading = told_of(("web", many(1)))
    async with open_dns(reading, ":0") as front:
        port = front.addresses[0].rpartition(":")[2]
        for address in ("127.0.0.1", "127.0.0.5"):
            # A wildcard socket answers from the address that was asked.
            assert shown(await ask(f"{address}:{port}", "web.discoverd.")) == ["A 10.0.0.0"]
        if socket.has_dualstack_ipv6():
            query = dns.message.make_query("web.discoverd.", "A")
            answer = await dns.asyncquery.udp(query, "::1", port=int(port), timeout=within(5))
            assert shown(answer) == ["A 10.0.0.0"]


async def test_a_directory_over_a_store_is_told() -> None:
    async with open_directory("memory:") as directory, open_front(directory.reading) as front:
        await directory.instances.register("web", Registration("a", endpoint="tcp://10.0.0.7:7700"))
        assert shown(await ask(front, "web.discoverd.", "SRV")) == ["SRV 1 1 7700 a.web._i.discoverd."]


# -------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("bind", "options", "message"),
    [
        ("nothing", {}, "no address to use"),
        ("127.0.0.1:0", {"zone": "."}, "below the root"),
        ("127.0.0.1:0", {"zone": "a..b"}, "no name of a domain"),
        ("127.0.0.1:0", {"zone": ".".join(["x" * 60] * 3)}, "at most"),
        ("127.0.0.1:0", {"ttl": -1}, "ttl is from 0"),
        ("127.0.0.1:0", {"max_udp": 100}, "max_udp is from 512"),
        ("127.0.0.1:0", {"recursors": ("no such:host:",)}, "no address to use"),
        ("127.0.0.1:0", {"recursors": (":53",)}, "has no host"),
        ("127.0.0.1:0", {"recursors": ("name.invalid",)}, "recursor 'name.invalid'"),
        ("127.0.0.1:0", {"recursors": ("x" * 70,)}, f"recursor '{'x' * 70}'"),
        (f"{'x' * 70}:5353", {}, "cannot listen at x"),
        ("192.0.2.77:5353", {}, "cannot listen at 192.0.2.77:5353"),
        ("name.invalid:5353", {}, "cannot listen at name.invalid:5353"),
    ],
)
async def test_configurations_that_make_no_sense(bind: str, options: dict[str, Any], message: str) -> None:
    _, reading = told_of()
    with pytest.raises(duplex.ConfigurationError, match=message):
        async with open_dns(reading, bind, DnsOptions(**options)):
            pass


@pytest.mark.parametrize(
    ("bind", "recursor"),
    [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("", "127.0.0.5"), ("[::1]", "[::1]")],
)
async def test_a_server_that_would_ask_itself_does_not_begin(bind: str, recursor: str) -> None:
    _, reading = told_of()
    port = (await closed_port()).rpartition(":")[2]
    with pytest.raises(duplex.ConfigurationError, match="is this server itself"):
        async with open_dns(reading, f"{bind}:{port}", DnsOptions(recursors=(f"{recursor}:{port}",))):
            pass
    # Others at the same port are others; and nothing is left behind.
    async with open_dns(reading, f"127.0.0.1:{port}", DnsOptions(recursors=(f"127.0.0.2:{port}",))):
        pass
    async with open_dns(reading, f":{port}", DnsOptions(recursors=(f"192.0.2.1:{port}",))):
        pass


async def test_an_address_that_is_taken() -> None:
    _, reading = told_of()
    async with open_front(reading) as front:
        with pytest.raises(duplex.ConfigurationError, match="in use"):
            async with open_dns(reading, front.addresses[0]):
                pass


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:54", ("192.0.2.1", 54)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
        ("localhost:54", ("127.0.0.1", 54)),
    ],
)
async def test_recursors_are_read(text: str, where: tuple[str, int]) -> None:
    [found] = await find_recursors([text])
    assert found in {where, ("::1", where[1])}


def test_without_the_library_one_error_says_what_to_install() -> None:
    source = (
        "import sys; sys.modules['dns'] = None\n"
        "import trio\n"
        "from duplex_services.discovery import Reading, open_dns\n"
        "async def main():\n"
        "    async with open_dns(None): pass\n"
        "trio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().splitlines()[-1].endswith("not installed: pip install 'duplex-rpc[dns]'")


def test_who_does_not_tell_dns_does_not_load_it() -> None:
    source = "import sys, json, duplex_services.discovery; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert not {"dns", "h11"} & set(json.loads(done.stdout))
