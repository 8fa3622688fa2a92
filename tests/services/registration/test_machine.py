"""The addresses that others are told."""

from __future__ import annotations

import socket
import sys

import pytest

import duplex
from duplex_services.registration._machine import Machine
from duplex_services.registration._model import Host
from duplex_services.registration._rules._hosts import Interface, choose_host

HERE = [
    Interface("lo", "127.0.0.1"),
    Interface("eth0", "10.0.0.5"),
    Interface("eth0", "fe80::1"),
    Interface("eth0", "2001:db8::5"),
    Interface("eth1", "192.168.7.5"),
    Interface("docker0", "172.17.0.1"),
]


@pytest.mark.parametrize(
    ("wanted", "routed", "four", "six"),
    [
        ((), ("10.0.0.5", "2001:db8::5"), "10.0.0.5", "2001:db8::5"),
        ((), (), "", "2001:db8::5"),
        ((), ("127.0.0.1",), "", "2001:db8::5"),
        (("192.168.0.0/16",), ("10.0.0.5",), "192.168.7.5", ""),
        (("eth1",), (), "192.168.7.5", ""),
        (("eth9", "eth0"), (), "10.0.0.5", "2001:db8::5"),
        (("203.0.113.9",), (), "203.0.113.9", ""),
        (("203.0.113.9", "2001:db8::/32"), (), "203.0.113.9", "2001:db8::5"),
        (("docker0",), (), "172.17.0.1", ""),
    ],
)
def test_address(wanted: tuple[str, ...], routed: tuple[str, ...], four: str, six: str) -> None:
    assert choose_host("h", HERE, wanted, routed) == Host("h", four, six)


def test_only_address_of_a_family_is_taken() -> None:
    assert choose_host("h", HERE[:2], ()) == Host("h", "10.0.0.5")
    assert choose_host("h", HERE[:1], ()) == Host("h")


@pytest.mark.parametrize(("wanted", "message"), [("eth9", "there are eth0 10.0.0.5, eth0 2001:db8::5"), ("10.0.0.0/99", "no network"), ("172.16.0.0/99x", "no network")])  # fmt: skip
def test_address_that_is_not_here(wanted: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_host("h", HERE, (wanted,))


def test_this_machine() -> None:
    now = 0.0
    machine = Machine(("127.0.0.2",), clock=lambda: now)
    assert machine() == Host(socket.gethostname(), "127.0.0.2")
    first = machine()
    assert machine() is first
    now = 6.0
    assert machine() is not first
    assert Machine(name="x")().name == "x"
    away = Machine(("no-such-interface",))
    assert away() == Host(socket.gethostname())
    assert "there is no such address here" in away.trouble


def test_address_that_the_name_resolves_to() -> None:
    assert Machine(name="localhost", resolves=True)() == Host("localhost", "127.0.0.1")
    assert Machine(name="no-such-name.invalid", resolves=True)() == Host("no-such-name.invalid")


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(duplex.ConfigurationError, match=r"duplex-rpc\[registration\]"):
        Machine()()
