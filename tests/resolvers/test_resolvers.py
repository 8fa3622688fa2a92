"""What says where services are: endpoints that do not change, files, hosts, and texts that name one of these."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex.resolvers import (
    DnsResolver,
    Endpoint,
    FileResolver,
    HostResolver,
    StaticResolver,
    resolver_for,
)
from tests.machine import fail_after


async def first(resolver: duplex.Resolver, service: str = "calc") -> list[str | Endpoint]:
    """Return what a resolver says first."""
    sets: Any = resolver.resolve(service)
    try:
        with fail_after(10):
            async for told in sets:
                return list(told)
    finally:
        await sets.aclose()
    raise AssertionError("it says nothing")


# -- endpoints ---------------------------------------------------------------------------------------------


def test_an_endpoint() -> None:
    endpoint = Endpoint("127.0.0.1:7700", weight=2, zone="a", service="calc")
    assert endpoint.address == "tcp://127.0.0.1:7700"
    assert endpoint == Endpoint("tcp://127.0.0.1:7700", weight=2.0, zone="a", service="calc")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"address": 3}, r"Endpoint\.address must be a str"),
        ({"address": "nowhere"}, "does not begin with a scheme"),
        ({"weight": 0}, r"Endpoint\.weight must be a number"),
        ({"weight": "1"}, r"Endpoint\.weight must be a number"),
        ({"zone": 3}, r"Endpoint\.zone must be a str"),
        ({"service": None}, r"Endpoint\.service must be a str"),
    ],
)
def test_wrong_endpoints(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        Endpoint(**{"address": "tcp://127.0.0.1:1", **wrong})


async def test_endpoints_that_do_not_change() -> None:
    resolver = StaticResolver(["127.0.0.1:1", Endpoint("tcp://127.0.0.1:2", weight=3)])
    assert await first(resolver) == [Endpoint("tcp://127.0.0.1:1"), Endpoint("tcp://127.0.0.1:2", weight=3)]
    assert "2 endpoints" in repr(resolver)
    with pytest.raises(duplex.ConfigurationError, match="begin with a scheme"):
        StaticResolver(["nowhere"])


# -- files -------------------------------------------------------------------------------------------------


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    other = path.with_suffix(".new")
    other.write_text(text, encoding="utf-8")
    os.replace(other, path)


async def test_a_file_is_read_whenever_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "calc.json"
    _write(
        path,
        '["127.0.0.1:1", {"endpoint": "tcp://127.0.0.1:2", "weight": 2, "zone": "b", "service": "calc"}]',
    )
    resolver = FileResolver(path, interval=0.01)
    assert str(path) in repr(resolver)
    sets: Any = resolver.resolve("calc")
    with fail_after(20):
        assert list(await anext(sets)) == [
            Endpoint("tcp://127.0.0.1:1"),
            Endpoint("tcp://127.0.0.1:2", weight=2, zone="b", service="calc"),
        ]
        with trio.move_on_after(0.2) as scope:
            await trio.lowlevel.checkpoint()
            # As long as it does not change it is not told again: there is nothing to wait for but time.
            await trio.sleep_forever()
        assert scope.cancelled_caught
        _write(path, "[]")
        assert list(await anext(sets)) == []
        path.write_text('["127.0.0.1:3"]', encoding="utf-8")
        assert list(await anext(sets)) == [Endpoint("tcp://127.0.0.1:3")]
        path.unlink()
        with pytest.raises(FileNotFoundError):
            await anext(sets)


async def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "calc.json"
    os.mkfifo(path)
    for wrong in (path, tmp_path, Path("/dev/zero")):
        with fail_after(10), pytest.raises(duplex.ConfigurationError, match="is no file"):
            await first(FileResolver(wrong))


async def test_a_file_system_that_hangs_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calc.json"
    path.write_text("[]", encoding="utf-8")
    hangs = threading.Event()
    goes_on = threading.Event()

    def read_bytes(self: Path) -> bytes:
        hangs.set()
        goes_on.wait()
        return b"[]"

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    try:
        with fail_after(10):
            async with duplex.open_peer() as peer:
                followed = peer.connect_service("calc", f"file://{path}")
                await trio.to_thread.run_sync(hangs.wait)
                assert list(followed.endpoints) == []
    finally:
        goes_on.set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no list of endpoints"),
        ('["127.0.0.1:1", ', "is no list of endpoints"),
        ('{"a": 1}', "is no list of endpoints"),
        ("[3]", "is no list of endpoints"),
        ('[{"weight": 3}]', "endpoint"),
        ('[{"endpoint": "127.0.0.1:1", "wieght": 3}]', "wieght"),
        ('["nowhere"]', "begin with a scheme"),
        ('[{"endpoint": "127.0.0.1:1", "weight": 0}]', "weight must be"),
    ],
)
async def test_a_file_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "calc.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(duplex.ConfigurationError, match=message) as caught:
        await first(FileResolver(path))
    assert "calc.json" in str(caught.value)


@pytest.mark.parametrize("interval", [0, -1, "1", float("nan")])
def test_wrong_intervals(interval: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match="interval must be a number of seconds"):
        FileResolver("x", interval)
    with pytest.raises(duplex.ConfigurationError, match="interval must be a number of seconds"):
        HostResolver("localhost", 1, interval)


# -- hosts -------------------------------------------------------------------------------------------------


class Hosts(trio.abc.HostnameResolver):
    """Stands in for the system's way to find addresses."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.error: int | None = None

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise socket.gaierror(self.error, "no")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_the_addresses_of_a_host(autojump_clock: object) -> None:
    hosts = Hosts()
    trio.socket.set_custom_hostname_resolver(hosts)
    hosts.addresses = ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"]
    resolver = HostResolver("calc.test", 7700)
    assert "calc.test" in repr(resolver)
    sets: Any = resolver.resolve("calc")
    told = [endpoint.address for endpoint in await anext(sets)]
    assert told == ["tcp://10.0.0.1:7700", "tcp://10.0.0.2:7700", "tcp://[fd00::1]:7700"]
    began = trio.current_time()

    async def later() -> None:
        await trio.sleep(100)  # of virtual time
        hosts.addresses = ["10.0.0.3"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert [endpoint.address for endpoint in await anext(sets)] == ["tcp://10.0.0.3:7700"]
    assert 100 <= trio.current_time() - began <= 130
    hosts.error = socket.EAI_NONAME
    assert list(await anext(sets)) == [], "there is no such host"
    hosts.error = socket.EAI_AGAIN
    with pytest.raises(socket.gaierror):
        await anext(sets)


async def test_what_cannot_be_a_hosts_name_has_no_addresses() -> None:
    assert await first(HostResolver("x" * 70, 7700)) == []


async def test_the_own_host() -> None:
    told = await first(HostResolver("localhost", 7700))
    assert Endpoint("tcp://127.0.0.1:7700") in told


# -- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("tcp://127.0.0.1:7700", StaticResolver),
        ("127.0.0.1:7700", StaticResolver),
        ("memory://x", StaticResolver),
        ("file:///etc/calc.json", FileResolver),
        ("host://calc.test:7700", HostResolver),
        ("host://[::1]:7700", HostResolver),
        ("dns:///calc.test:7700", DnsResolver),
        ("dns://10.0.0.53/calc.test:7700", DnsResolver),
        ("dns://10.0.0.53:5353/_calc._tcp.test", DnsResolver),
        ("dns://[fd00::53]:5353/_calc._tcp.test", DnsResolver),
        ("dns://[fd00::53]/_calc._tcp.test", DnsResolver),
    ],
)
def test_texts(text: str, kind: type) -> None:
    assert type(resolver_for(text)) is kind


def test_name_servers_in_texts() -> None:
    for text, server in (
        ("dns://[fd00::53]:5353/_a._tcp.test", ("fd00::53", 5353)),
        ("dns://[fd00::53]/_a._tcp.test", ("fd00::53", 53)),
        ("dns://10.0.0.53:5353/a.test:1", ("10.0.0.53", 5353)),
        ("dns:///a.test:1", ("", 53)),
    ):
        resolver: Any = resolver_for(text)
        assert (resolver._nameserver, resolver._nameserver_port) == server


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "HOST:PORT is short for tcp"),
        ("unknown://x", r"services are looked up at .*dns://, file://, host://"),
        ("file://etc/calc.json", "by its whole path"),
        ("host://calc.test", "has to name a host and a port"),
        ("host://calc.test:http", "has to name a host and a port"),
        ("host://calc.test:70000", "a port is a number from 1 to 65535"),
        ("host://:7700", "has to name a host and a port"),
        ("dns://calc.test", "has to be dns:///NAME:PORT"),
        ("dns:///", "has to be dns:///NAME:PORT"),
        ("dns:///calc.test", "has to name a host and a port"),
        ("dns://10.0.0.53:x/calc.test:1", "has to name a host and a port"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        resolver_for(text)


def test_resolvers_themselves() -> None:
    resolver = StaticResolver([])
    assert resolver_for(resolver) is resolver
    assert type(resolver_for(["127.0.0.1:1"])) is StaticResolver
    wrong: Any = 3
    with pytest.raises(duplex.ConfigurationError, match="has a method resolve"):
        resolver_for(wrong)


class Registry:
    """A resolver that another package brings along."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def resolve(self, service: str) -> AsyncIterator[Iterable[str]]:
        await trio.lowlevel.checkpoint()
        yield [f"memory://{service}"]


async def test_schemes_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("registry", f"{__name__}:Registry", "duplex.resolvers")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda _self: Registry)
    found = importlib.metadata.EntryPoints([entry])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: found.select(**wanted))
    resolver: Any = resolver_for("registry://here/calc")
    assert resolver.text == "registry://here/calc"
    assert await first(resolver) == ["memory://calc"]
    with pytest.raises(duplex.ConfigurationError, match=r"host://, registry://"):
        resolver_for("other://here")
