"""Name servers say where services are."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
import trio

import duplex
from duplex.resolvers import DnsResolver
from tests.machine import fail_after


class NameServer:
    """A name server with a few records, on a port of its own."""

    def __init__(self) -> None:
        #: Seconds and texts of records, by name and kind.
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.rcode: dns.rcode.Rcode | None = None
        #: Kinds of records, and names, that it fails to give.
        self.broken: set[str] = set()
        #: Names that lead to others, with the seconds for which they do.
        self.aliases: dict[str, tuple[int, str]] = {}
        self.questions = 0
        self.port = 0

    def answer(self, data: bytes) -> bytes:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        name, kind = question.question[0].name, dns.rdatatype.to_text(question.question[0].rdtype)
        self.questions += 1
        asked = str(name).rstrip(".")
        if asked in self.aliases:
            seconds, target = self.aliases[asked]
            answer.answer.append(dns.rrset.from_text(name, seconds, "IN", "CNAME", f"{target}."))
            name = dns.name.from_text(target)
        found = self.records.get((str(name).rstrip("."), kind))
        if self.rcode is not None or {kind, asked} & self.broken:
            answer.set_rcode(self.rcode or dns.rcode.SERVFAIL)
        elif found is not None:
            answer.answer.append(dns.rrset.from_text(name, found[0], "IN", kind, *found[1]))
        elif not any(known == str(name).rstrip(".") for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()


@contextlib.asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    server = NameServer()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        server.port = sock.getsockname()[1]

        async def serve() -> None:
            while True:
                data, address = await sock.recvfrom(4096)
                await sock.sendto(server.answer(data), address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with fail_after(30):
                yield server
            nursery.cancel_scope.cancel()


def resolver(server: NameServer, name: str, port: int | None = None, **times: float) -> Any:
    times = times or {"shortest": 0.01, "longest": 0.02}
    found = DnsResolver(name, port, nameserver="127.0.0.1", nameserver_port=server.port, **times)
    assert name in repr(found)
    return found.resolve("calc")


async def test_addresses() -> None:
    async with name_server() as server:
        server.records["calc.test", "A"] = 0, ["10.0.0.2", "10.0.0.1"]
        server.records["calc.test", "AAAA"] = 0, ["fd00::1"]
        sets = resolver(server, "calc.test", 7700)
        told = [endpoint.address for endpoint in await anext(sets)]
        assert told == ["tcp://10.0.0.1:7700", "tcp://10.0.0.2:7700", "tcp://[fd00::1]:7700"]
        server.records["calc.test", "A"] = 0, ["10.0.0.3"]
        del server.records["calc.test", "AAAA"]
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.3:7700"]
        await sets.aclose()


async def test_service_records() -> None:
    """Those with the first priority, with their ports and weights."""
    async with name_server() as server:
        server.records["_calc._tcp.test", "SRV"] = (
            0,
            ["1 30 7701 a.test.", "1 10 7702 b.test.", "2 50 7703 c.test.", "1 0 7704 b.test."],
        )
        server.records["a.test", "A"] = 0, ["10.0.0.1"]
        server.records["b.test", "A"] = 0, ["10.0.0.2"]
        sets = resolver(server, "_calc._tcp.test")
        told = {endpoint.address: endpoint.weight for endpoint in await anext(sets)}
        assert told.keys() == {"tcp://10.0.0.1:7701", "tcp://10.0.0.2:7702", "tcp://10.0.0.2:7704"}
        assert told["tcp://10.0.0.1:7701"] == pytest.approx(3 * told["tcp://10.0.0.2:7702"])
        assert told["tcp://10.0.0.2:7704"] < 0.1 * told["tcp://10.0.0.2:7702"]
        server.records["_calc._tcp.test", "SRV"] = 0, ["1 0 7701 a.test.", "1 0 7702 b.test."]
        assert [endpoint.weight for endpoint in await anext(sets)] == [1.0, 1.0]
        await sets.aclose()


async def test_a_name_that_is_not_there_has_no_endpoints() -> None:
    async with name_server() as server:
        sets = resolver(server, "calc.test", 7700)
        assert await anext(sets) == []
        server.records["calc.test", "TXT"] = 0, ["nothing"]
        server.records["calc.test", "A"] = 0, ["10.0.0.1"]
        assert len(await anext(sets)) == 1
        del server.records["calc.test", "A"]
        assert await anext(sets) == []
        await sets.aclose()


async def test_name_servers_that_fail() -> None:
    """That is not the same as no endpoints."""
    async with name_server() as server:
        server.records["calc.test", "A"] = 0, ["10.0.0.1"]
        server.broken = {"AAAA"}
        sets = resolver(server, "calc.test", 7700)
        assert len(await anext(sets)) == 1, "one kind of address will do"
        server.rcode = dns.rcode.SERVFAIL
        with pytest.raises(dns.exception.DNSException):
            await anext(sets)


async def test_answers_hold_for_as_long_as_they_say() -> None:
    async with name_server() as server:
        server.records["calc.test", "A"] = 1, ["10.0.0.1"]
        sets = resolver(server, "calc.test", 7700, shortest=0.01, longest=60.0)
        await anext(sets)
        server.records["calc.test", "A"] = 3600, ["10.0.0.2"]
        began = trio.current_time()
        await anext(sets)
        assert trio.current_time() - began >= 0.9
        server.records["calc.test", "A"] = 3600, ["10.0.0.3"]
        asked = server.questions
        with trio.move_on_after(1.5):
            await anext(sets)
            pytest.fail("it was asked again too soon")
        assert server.questions == asked


async def test_an_alias_holds_for_as_long_as_it_says() -> None:
    async with name_server() as server:
        server.records["one.test", "A"] = 3600, ["10.0.0.1"]
        server.records["two.test", "A"] = 3600, ["10.0.0.2"]
        server.aliases["calc.test"] = 1, "one.test"
        sets = resolver(server, "calc.test", 7700, shortest=0.01, longest=3600.0)
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.1:7700"]
        server.aliases["calc.test"] = 1, "two.test"
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.2:7700"]
        await sets.aclose()


@pytest.mark.parametrize("name", ["_calc._tcp.test", "calc.test"])
async def test_a_name_without_records_is_asked_for_soon_again(name: str) -> None:
    async with name_server() as server:
        # It is there, and has something else: name servers of discovery say so of a service of which nothing runs yet.
        server.records[name, "TXT"] = 0, ["nothing"]
        sets = resolver(server, name, None if name.startswith("_") else 7700, shortest=0.01, longest=3600.0)
        assert await anext(sets) == []
        server.records["calc.test", "A"] = 3600, ["10.0.0.1"]
        server.records["_calc._tcp.test", "SRV"] = 3600, ["1 1 7700 calc.test."]
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.1:7700"]
        await sets.aclose()


async def test_a_target_that_cannot_be_asked_for_is_no_reason_to_forget_others() -> None:
    async with name_server() as server:
        server.records["_calc._tcp.test", "SRV"] = 3600, ["1 1 1 a.test.", "1 1 2 b.test."]
        server.records["a.test", "A"] = 3600, ["10.0.0.1"]
        server.records["b.test", "A"] = 0, ["10.0.0.2"]
        server.broken = {"b.test"}
        sets = resolver(server, "_calc._tcp.test", shortest=0.01, longest=3600.0)
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.1:1"]
        server.broken = set()
        assert [endpoint.address for endpoint in await anext(sets)] == [
            "tcp://10.0.0.1:1",
            "tcp://10.0.0.2:2",
        ]
        # What was known of it stays.
        server.broken = {"b.test"}
        server.records["_calc._tcp.test", "SRV"] = 3600, ["1 1 1 a.test.", "1 1 3 b.test."]
        assert [endpoint.address for endpoint in await anext(sets)] == [
            "tcp://10.0.0.1:1",
            "tcp://10.0.0.2:3",
        ]
        server.broken = {"_calc._tcp.test"}
        with pytest.raises(dns.exception.DNSException):
            await anext(sets)
        server.broken = {"a.test", "b.test"}
        with pytest.raises(dns.exception.DNSException):
            await anext(resolver(server, "_calc._tcp.test"))


async def test_a_short_life_does_not_make_many_questions() -> None:
    async with name_server() as server:
        server.records["calc.test", "A"] = 0, ["10.0.0.1"]
        sets = resolver(server, "calc.test", 7700, shortest=0.5, longest=1.0)
        await anext(sets)
        asked = server.questions
        with trio.move_on_after(1.2):
            await anext(sets)
        assert server.questions - asked <= 6


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(duplex.ConfigurationError, match=r"pip install 'duplex-rpc\[dns\]'"):
        DnsResolver("calc.test", 7700)


@pytest.mark.parametrize("times", [{"shortest": 0}, {"longest": 1.0}, {"longest": "x"}])
def test_wrong_times(times: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match="must be a number of seconds"):
        DnsResolver("calc.test", 7700, **times)
