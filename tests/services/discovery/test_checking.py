"""What is refused before anything is written: all that is wrong is told at once, and what to do about it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.discovery._model import Check, Registration
from duplex_services.discovery._rules._checking import (
    check_id,
    check_registration,
    check_service_name,
    check_ttl,
)
from duplex_services.discovery._rules._keys import (
    config_key,
    instance_key,
    leader_key,
    metadata_key,
    read_key,
    server_key,
)
from duplex_services.store._rules._keys import check_key

GOOD = Registration("a-1", host="10.0.0.7", port=80)


@pytest.mark.parametrize("name", ["a", "web", "a-b", "x" * 63, "0"])
def test_names(name: str) -> None:
    assert check_service_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "a-", "x" * 64, "ä", "a\n", None, 5, b"a"])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(ValueError, match="is no name: up to 63 lower-case"):
        check_service_name(name)


@pytest.mark.parametrize(
    "id", ["a", "h1:redis.0:6379", "A@b_c-d", "x" * 100, "74667cebd845d088d811ddef924895b7"]
)
def test_ids(id: str) -> None:
    assert check_id(id) == id


@pytest.mark.parametrize("id", ["", ".", "..", "_a", "a/b", "a b", "x" * 101, "a\n", "é", None, 5])
def test_ids_that_are_none(id: Any) -> None:
    with pytest.raises(ValueError, match="is none: up to 100 letters"):
        check_id(id)


def test_ttls() -> None:
    assert check_ttl(1) == 1.0
    for ttl in (0, 0.4, -1, 86401, float("nan"), float("inf"), True, "5", None):
        with pytest.raises(ValueError, match=r"ttl is from 0\.5 s up to a day"):
            check_ttl(ttl)


@pytest.mark.parametrize(
    ("fields", "host", "port"),
    [
        ({"endpoint": "tcp://10.0.0.7:7700"}, "10.0.0.7", 7700),
        ({"endpoint": "tcp://[fd00::1]:7700"}, "fd00::1", 7700),
        ({"endpoint": "tcp://10.0.0.7:7700", "host": "outside", "port": 80}, "outside", 80),
        ({"endpoint": "ipc:///run/x.sock"}, "", 0),
        ({"host": "fd00::1", "port": 80}, "fd00::1", 80),
        ({"host": "db.example", "port": 5432, "protocol": "postgres"}, "db.example", 5432),
    ],
)
def test_addresses(fields: dict[str, Any], host: str, port: int) -> None:
    found = check_registration(Registration("a", **fields))
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"host": "", "port": 0}, "neither an endpoint nor a host and port"),
        ({"host": ""}, "port 80 has no host"),
        ({"port": 0}, "port is from 1 to 65535, not 0"),
        ({"port": 65536}, "not 65536"),
        ({"host": "0.0.0.0"}, "is every address and so none"),
        ({"host": "::"}, "is every address and so none"),
        ({"host": "0::0"}, "is every address and so none"),
        ({"host": "*"}, "is every address and so none"),
        ({"host": "fe80::1%eth0"}, "neither an address nor a name"),
        ({"host": "fe80::1%\x1b[2J\r\n"}, "neither an address nor a name"),
        ({"host": f"a.{'x' * 64}.b"}, "neither an address nor a name"),
        ({"host": "a."}, "neither an address nor a name"),
        ({"host": "a b"}, "neither an address nor a name"),
        ({"host": "10.0.0.256"}, "neither an address nor a name"),
        ({"host": "x" * 254}, "neither an address nor a name"),
        ({"endpoint": "http://x"}, "is none: tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH"),
        ({"endpoint": "tcp://x"}, "has no host and port"),
        ({"endpoint": "tls://x"}, "has no host and port: tls://HOST:PORT"),
        ({"endpoint": "tcp://a b:1"}, "is none"),
        ({"endpoint": "ipc:///a\x1b[2J"}, "is none"),
        ({"endpoint": "ipc:///\ud800"}, "is none"),
        ({"endpoint": "tcp://a:\u0661"}, "has no host and port"),
        ({"endpoint": "tcp://a:0"}, "port is from 1 to 65535, not 0"),
        ({"endpoint": "tcp://*:7700"}, "is every address and so none"),
        ({"endpoint": "tcp://[fe80::1%x]:7700"}, "neither an address nor a name"),
        ({"protocol": "TCP"}, "protocol 'TCP' is none"),
        ({"protocol": ""}, "protocol '' is none"),
        ({"weight": -1}, "weight is from 0 to 65535, not -1"),
        ({"weight": 65536}, "not 65536"),
        ({"zone": "a\n"}, "zone 'a\\n' has control characters"),
        ({"zone": "x" * 64}, "or more than 63"),
        ({"metadata": {"": "x"}}, "metadata key '' is empty"),
        ({"metadata": {"a": "\ud800"}}, "metadata of 'a' has surrogates"),
        ({"metadata": {"a": "x" * 9000}}, "metadata has 9001 characters, more than 8192"),
        ({"check": Check("tcp", interval=0.01)}, "check.interval is from 0.05 s to an hour, not 0.01"),
        ({"check": Check("tcp", timeout=float("nan"))}, "check.timeout is from 0.05 s"),
        ({"check": Check("tcp", threshold=0)}, "check.threshold is from 1 to 100, not 0"),
        ({"check": Check("http", status=99)}, "check.status is that of an HTTP answer, not 99"),
        ({"check": Check("command")}, "check.target is empty"),
        ({"check": Check("http", target="a\r\nb")}, "check.target has control characters"),
        ({"check": Check("http", contains="\udfff")}, "check.contains has surrogates"),
    ],
)
def test_registrations_that_make_no_sense(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_registration(msgspec.structs.replace(GOOD, **fields))
    assert problem in str(caught.value)
    assert ";" not in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        check_registration(Registration("/", host="*", port=-1, protocol="!", weight=-5))
    assert len(str(caught.value).split("; ")) == 5


@given(st.text(), st.text())
def test_keys_are_keys_of_the_store_and_come_back(service: str, id: str) -> None:
    try:
        check_service_name(service)
        check_id(id)
    except ValueError:
        return
    for key in (instance_key(service, id), config_key(service), metadata_key(service), leader_key(service)):
        check_key(key)
        assert read_key(key).name == service
    assert read_key(instance_key(service, id)).id == id
    assert read_key(server_key(id)) == ("server", id, "")


def test_the_longest_keys() -> None:
    check_key(instance_key("s" * 63, "i" * 100))
