"""Where to listen, as people write it."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio

import duplex
from duplex_services._shared._addresses import open_sockets, read_address, show_address


@pytest.mark.parametrize(
    ("text", "default", "found"),
    [
        ("127.0.0.1:80", None, ("127.0.0.1", 80)),
        (" host.example:1 ", None, ("host.example", 1)),
        (":7710", None, ("", 7710)),
        ("[::1]:80", None, ("::1", 80)),
        ("[::1]", 53, ("::1", 53)),
        ("::1", 53, ("::1", 53)),
        ("host", 53, ("host", 53)),
    ],
)
def test_addresses(text: str, default: int | None, found: tuple[str, int]) -> None:
    assert read_address(text, default) == found


@pytest.mark.parametrize(
    "text", ["", "host", "::1", "[::1]", "host:", "host:x", "host:70000", "a b:1", "[::1:80", "x/y:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match="no address to use"):
        read_address(text)


def test_addresses_are_shown() -> None:
    assert (show_address("::1", 1), show_address("127.0.0.1", 1)) == ("[::1]:1", "127.0.0.1:1")


async def test_tcp_and_udp_have_one_port() -> None:
    tcp, udp = await open_sockets("127.0.0.1:0", with_udp=True)
    assert tcp[0].getsockname() == udp[0].getsockname()
    # The port is free for TCP, but not for UDP: nothing stays open.
    tcp[0].close()
    with pytest.raises(duplex.ConfigurationError, match="in use"):
        await open_sockets(f"127.0.0.1:{udp[0].getsockname()[1]}", with_udp=True)
    udp[0].close()


async def test_a_free_port_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = []
    bind_all = "duplex_services._shared._addresses._bind_all"

    async def taken(*args: Any, **options: Any) -> Any:
        tries.append(args)
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(bind_all, taken)
    with pytest.raises(duplex.ConfigurationError, match="Address already in use"):
        await open_sockets("127.0.0.1:0")
    assert len(tries) == 20


async def test_every_address_of_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    make = trio.socket.socket

    def without(family: int, kind: int) -> trio.socket.SocketType:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, kind)

    monkeypatch.setattr(trio.socket, "socket", without)
    tcp, _ = await open_sockets(":0")
    assert [one.family for one in tcp] == [socket.AF_INET]
    tcp[0].close()
    with pytest.raises(duplex.ConfigurationError, match="not supported"):
        await open_sockets("[::1]:0")
