"""What peers decide about discovery: names, endpoints of instances, addresses that others are told. Values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import duplex
from duplex_services.discovery._model import Instance
from duplex_services.discovery._rules._advertising import (
    Interface,
    Unreachable,
    advertised,
    is_inside,
    needs_interfaces,
    public,
)
from duplex_services.discovery._rules._endpoints import endpoint_of, endpoints_of, why_none
from duplex_services.discovery._rules._naming import (
    Target,
    is_store,
    listed_name,
    read_servers,
    read_target,
)

# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("discovery://calc", Target("calc")),
        ("discovery://", Target("")),
        ("discovery:///calc", Target("calc")),
        ("discovery://user_store", Target("user_store")),
        ("discovery://h:7710/calc", Target("calc", ("tcp://h:7710",))),
        ("discovery://h:1,[::1]:2/calc", Target("calc", ("tcp://h:1", "tcp://[::1]:2"))),
        ("discovery://calc?zone=b", Target("calc", zone="b")),
        ("discovery://calc?zone=b&disk=ssd&empty=", Target("calc", (), "b", {"disk": "ssd", "empty": ""})),
        ("discovery://a%2Db", Target("a-b")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert read_target(text) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("discovery://a b", "cannot be listed"),
        ("discovery:// a", "has to be discovery://NAME"),
        ("discovery://h:1/a/b", "has to be discovery://NAME"),
        ("discovery://h/a", "is no server"),
        ("discovery://h:1,/a", "is no server"),
        ("discovery://a?b", "KEY=VALUE"),
        ("discovery://-", "cannot be listed"),
        ("discovery://" + "a" * 64, "up to 63"),
    ],
)
def test_what_is_no_target(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_target(text)


@pytest.mark.parametrize(
    ("service", "listed"),
    [
        ("calc", "calc"),
        ("user_store", "user-store"),
        ("acme.Billing.v1", "acme-billing-v1"),
        ("_private", "private"),
        ("a.__b", "a-b"),
    ],
)
def test_listed_names(service: str, listed: str) -> None:
    assert listed_name(service) == listed
    assert listed_name(listed) == listed


@pytest.mark.parametrize(
    ("texts", "servers"),
    [
        ([], ()),
        (["h:1"], ("tcp://h:1",)),
        ([":1"], ("tcp://127.0.0.1:1",)),
        (["tcp://a:1,tcp://b:2", "tcp://a:1"], ("tcp://a:1", "tcp://b:2")),
        (["ipc:///run/x.sock"], ("ipc:///run/x.sock",)),
        (["memory://x"], ("memory://x",)),
        (["memory:"], ("memory:",)),
        (["etcd://a,b,c/p"], ("etcd://a,b,c/p",)),
        (["duplex+tcp://a:1"], ("duplex+tcp://a:1",)),
        (["tls://a:1,tls://b:2"], ("tls://a:1", "tls://b:2")),
        ([" a:1 , , b:2 "], ("tcp://a:1", "tcp://b:2")),
        (["local", "a:1,local"], ("ipc:///here", "tcp://a:1")),
    ],
)
def test_servers(texts: list[str], servers: tuple[str, ...]) -> None:
    assert read_servers(texts, "ipc:///here") == servers


def test_servers_and_stores_do_not_mix() -> None:
    with pytest.raises(ValueError, match="is both"):
        read_servers(["a:1", "sqlite:/x"], "ipc:///here")
    assert not is_store("nonsense")
    assert not is_store("zmq+tcp://a:1")


# -- endpoints ---------------------------------------------------------------------------------------------


def instance(id: str, **fields: Any) -> Instance:
    whole: dict[str, Any] = {
        "service": "calc",
        "endpoint": f"tcp://{id}:1",
        "host": id,
        "port": 1,
        "protocol": "duplex",
        "metadata": {},
        "weight": 1,
        "zone": "",
        "state": "passing",
        "note": "",
        "index": 1,
        "ttl": 10.0,
        **fields,
    }
    return Instance(id=id, **whole)


CALC = Target("calc")


def addresses(instances: Sequence[Instance], target: Target = CALC) -> dict[str, float]:
    return {one.address: one.weight for one in endpoints_of(instances, target)}


def test_where_a_peer_connects() -> None:
    assert endpoint_of(instance("a")) == "tcp://a:1"
    assert endpoint_of(instance("a", endpoint="", host="10.0.0.1", port=7)) == "tcp://10.0.0.1:7"
    assert endpoint_of(instance("a", endpoint="", host="::1", port=7)) == "tcp://[::1]:7"
    assert endpoint_of(instance("a", endpoint="", protocol="tcp")) == ""
    assert endpoint_of(instance("a", endpoint="", port=0)) == ""


def test_those_that_serve_have_endpoints() -> None:
    every = [
        instance("a"),
        instance("b", state="critical"),
        instance("c", state="warning"),
        instance("d", state="draining"),
        instance("e", state="maintenance"),
        instance("f", endpoint="", protocol="tcp"),
        instance("g", suspect=True),
    ]
    assert addresses(every) == {"tcp://a:1": 1.0, "tcp://c:1": 1.0, "tcp://g:1": 1.0}


def test_weights() -> None:
    assert addresses([instance("a", weight=3), instance("b", weight=0)]) == {"tcp://a:1": 3.0}
    assert addresses([instance("a", weight=0), instance("b", weight=0)]) == {
        "tcp://a:1": 1.0,
        "tcp://b:1": 1.0,
    }
    assert addresses([instance("a", weight=65535), instance("b", weight=1)]) == {
        "tcp://a:1": 1000.0,
        "tcp://b:1": pytest.approx(1000 / 65535),
    }


def test_zones_are_preferred() -> None:
    every = [instance("a", zone="x"), instance("b", zone="y")]
    assert addresses(every, Target("calc", zone="y")) == {"tcp://b:1": 1.0}
    assert len(addresses(every, Target("calc", zone="z"))) == 2
    sick = [instance("a", zone="x"), instance("b", zone="y", state="critical")]
    assert addresses(sick, Target("calc", zone="y")) == {"tcp://a:1": 1.0}, "nobody there serves"


def test_only_what_was_asked_for() -> None:
    every = [
        instance("a", service="user-store", metadata={"duplex.service": "user_store", "disk": "ssd"}),
        instance("b", service="user-store", metadata={"duplex.service": "user.store"}),
        instance("c", service="user-store"),
    ]
    assert addresses(every, Target("user_store")).keys() == {"tcp://a:1", "tcp://c:1"}
    assert len(addresses(every, Target("user-store"))) == 3, "the name in the directory is right for all"
    assert addresses(every, Target("user_store", metadata={"disk": "ssd"})).keys() == {"tcp://a:1"}


def test_an_address_that_is_listed_twice_is_one() -> None:
    twice = [instance("a"), instance("b", endpoint="tcp://a:1", weight=2)]
    assert addresses(twice) == {"tcp://a:1": 2.0}


@pytest.mark.parametrize(
    ("instances", "known", "why"),
    [
        ([], (), "no instance of 'calc'; it has none"),
        ([], ("calc", "b", "a"), "it has a, b"),
        ([], tuple("abcdefg"), "it has a, b, c, d, e and 2 others"),
        ([instance("x", state="critical", note="disk full")], (), r"x is critical \(disk full\)"),
        ([instance("x", endpoint="", protocol="http")], (), "x speaks http, and has no endpoint"),
        ([instance("x", metadata={"duplex.service": "other"})], (), "x is not what was asked for"),
    ],
)
def test_why_there_are_none(instances: list[Instance], known: tuple[str, ...], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(why_none("calc", instances, Target("other-name"), known))


# -- addresses ---------------------------------------------------------------------------------------------

LO = Interface("lo", "127.0.0.1")
LO6 = Interface("lo", "::1")
ETH = Interface("eth0", "10.0.0.7")
ETH6 = Interface("eth0", "2001:db8::7")
LINK6 = Interface("eth0", "fe80::7")
DOCKER = Interface("docker0", "172.17.0.1")


@pytest.mark.parametrize(
    ("bound", "rules", "interfaces", "told"),
    [
        # What is bound to an address is told as it is.
        ("tcp://10.0.0.7:7700", (), [], "tcp://10.0.0.7:7700"),
        ("tcp://127.0.0.1:7700", (), [], "tcp://127.0.0.1:7700"),
        ("tcp://[2001:db8::7]:7700", (), [], "tcp://[2001:db8::7]:7700"),
        ("ipc:///run/x.sock", (), [], "ipc:///run/x.sock"),
        ("ipc:///run/x.sock", ("eth0",), [LO, ETH], "ipc:///run/x.sock"),
        # All addresses, of which others reach one.
        ("tcp://0.0.0.0:7700", (), [LO, ETH], "tcp://10.0.0.7:7700"),
        ("tcp://*:7700", (), [LO, LO6, ETH, ETH6, LINK6], "tcp://10.0.0.7:7700"),
        ("tcp://[::]:7700", (), [LO, LO6, ETH6, LINK6], "tcp://[2001:db8::7]:7700"),
        ("tcp://[::]:7700", (), [LO6, ETH, ETH6], "tcp://10.0.0.7:7700"),
        # What libzmq has bound is reached as all else is.
        ("zmq+tcp://*:7700", (), [LO, ETH], "tcp://10.0.0.7:7700"),
        ("tls://*:7700", (), [LO, ETH], "tls://10.0.0.7:7700"),
        ("tls://[::]:7700", (), [LO6, ETH6], "tls://[2001:db8::7]:7700"),
        ("tls://0.0.0.0:7700", ("calc.example",), [], "tls://calc.example:7700"),
        ("tls://0.0.0.0:7700", ("tcp://h.example:1", "tls://h.example:2", "x"), [], "tls://h.example:2"),
        ("tls://0.0.0.0:7700", ("10.0.0.0/8",), [LO, ETH], "tls://10.0.0.7:7700"),
        ("tls://10.0.0.7:7700", (), [LO, ETH], "tls://10.0.0.7:7700"),
        ("tls://*:7700", ("calc.example",), [LO, ETH], "tls://calc.example:7700"),
        ("tls://*:7700", ("tcp://a.example:1", "tls://b.example:2"), [LO, ETH], "tls://b.example:2"),
        ("tcp://*:7700", ("tls://b.example:2", "tcp://a.example:1"), [LO, ETH], "tcp://a.example:1"),
        ("tls://[::]:7700", ("2001:db8::/32",), [LO, ETH, ETH6], "tls://[2001:db8::7]:7700"),
        ("zmq+ipc:///run/x.sock", (), [], "ipc:///run/x.sock"),
        # What somebody says.
        ("tcp://0.0.0.0:7700", ("calc.example",), [LO, ETH], "tcp://calc.example:7700"),
        ("tcp://0.0.0.0:7700", ("calc:80",), [], "tcp://calc:80"),
        ("tcp://0.0.0.0:7700", ("tcp://203.0.113.9:80",), [], "tcp://203.0.113.9:80"),
        ("tcp://127.0.0.1:7700", ("203.0.113.9",), [], "tcp://203.0.113.9:7700"),
        ("tcp://0.0.0.0:7700", ("2001:db8::9",), [], "tcp://[2001:db8::9]:7700"),
        ("tcp://0.0.0.0:7700", ("[2001:db8::9]:80",), [], "tcp://[2001:db8::9]:80"),
        ("ipc:///a", ("ipc:///shared/a", "10.0.0.7"), [], "ipc:///shared/a"),
        ("tcp://*:1", ("ipc:///shared/a", "10.0.0.7"), [], "tcp://10.0.0.7:1"),
        # Interfaces and networks.
        ("tcp://0.0.0.0:7700", ("docker0",), [LO, ETH, DOCKER], "tcp://172.17.0.1:7700"),
        ("tcp://0.0.0.0:7700", ("10.0.0.0/8",), [LO, ETH, DOCKER], "tcp://10.0.0.7:7700"),
        ("tcp://10.0.0.7:7700", ("10.0.0.0/8",), [LO, ETH, DOCKER], "tcp://10.0.0.7:7700"),
        ("tcp://[::]:7700", ("2001:db8::/32",), [LO, ETH, ETH6], "tcp://[2001:db8::7]:7700"),
        ("tcp://0.0.0.0:7700", ("eth7", "10.0.0.0/8"), [LO, ETH, DOCKER], "tcp://10.0.0.7:7700"),
    ],
)
def test_what_others_are_told(
    bound: str, rules: tuple[str, ...], interfaces: list[Interface], told: str
) -> None:
    assert advertised(bound, rules, interfaces) == told


@pytest.mark.parametrize(
    ("bound", "rules", "interfaces", "why"),
    [
        ("tcp://0.0.0.0:7700", (), [LO], "none that others reach: bind to tcp://127.0.0.1:7700"),
        ("tls://0.0.0.0:7700", (), [LO], "none that others reach: bind to tls://127.0.0.1:7700"),
        ("tcp://*:7700", (), [LO, LINK6], "none that others reach"),
        (
            "tcp://*:7700",
            (),
            [ETH, DOCKER],
            r"10\.0\.0\.7 \(eth0\), 172\.17\.0\.1 \(docker0\): say with advertise=",
        ),
        ("tcp://*:7700", ("0.0.0.0",), [ETH], "is every address"),
        ("tcp://*:7700", ("*:80",), [ETH], "is every address"),
        ("tcp://*:7700", ("eth7",), [LO, ETH], "there is no interface eth7 .*there are: lo, eth0"),
        ("tcp://*:7700", ("eth7",), [], "there are: none"),
        ("tcp://*:7700", ("192.168.0.0/16",), [LO, ETH], "has no address in 192.168.0.0/16"),
        ("tcp://127.0.0.1:7700", ("10.0.0.0/8",), [LO, ETH], r"10\.0\.0\.7 .* is not bound: 127\.0\.0\.1 is"),
        ("tcp://127.0.0.1:7700", ("eth0",), [LO, ETH], "is not bound"),
        ("tcp://*:1", ("0.0.0.0/0",), [ETH, DOCKER], "name one of them"),
        ("tcp://*:1", ("http://x",), [], "cannot be told"),
        ("tcp://*:1", ("a/b",), [], "nothing to advertise"),
        ("tcp://[::]:1", ("fe80::/10",), [LINK6], "is not bound"),
    ],
)
def test_what_cannot_be_told(
    bound: str, rules: tuple[str, ...], interfaces: list[Interface], why: str
) -> None:
    with pytest.raises(Unreachable, match=why):
        advertised(bound, rules, interfaces)


@pytest.mark.parametrize(
    ("bound", "rules", "needs"),
    [
        ("ipc:///x", (), False),
        ("ipc:///x", ("eth0",), False),
        ("tcp://10.0.0.7:1", (), False),
        ("tcp://*:1", (), True),
        ("tcp://[::]:1", (), True),
        ("zmq+tcp://*:1", (), True),
        ("tcp://*:1", ("10.0.0.7",), False),
        ("tcp://*:1", ("host:80", "tcp://x:1"), False),
        ("tcp://*:1", ("host:80", "eth0"), True),
        ("tcp://*:1", ("10.0.0.0/8",), True),
        ("tls://*:1", (), True),
        ("tls://10.0.0.7:1", (), False),
    ],
)
def test_when_the_machine_has_to_be_asked(bound: str, rules: tuple[str, ...], needs: bool) -> None:
    assert needs_interfaces(bound, rules) is needs


def test_what_is_of_this_machine_alone_is_told_only_if_there_is_nothing_else() -> None:
    local = ["tcp://127.0.0.1:1", "ipc:///x", "tcp://[::1]:1", "tcp://localhost:1"]
    assert public(local) == tuple(local)
    assert public([*local, "zmq+ipc:///y", "tcp://10.0.0.7:1"]) == ("tcp://10.0.0.7:1",)
    assert public([]) == ()


@pytest.mark.parametrize(
    ("endpoint", "inside"),
    [("memory://x", True), ("inproc://x", True), ("ipc:///x", False), ("tcp://h:1", False)],
)
def test_what_is_known_in_its_process_alone(endpoint: str, inside: bool) -> None:
    assert is_inside(endpoint) is inside


def test_endpoints_are_ones_of_duplex() -> None:
    (found,) = endpoints_of([instance("a", zone="x")], Target("calc"))
    assert found == duplex.Endpoint("tcp://a:1", zone="x")
