"""Registrator's layouts and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

import duplex
from duplex_services.registration._ledger import Ledger
from duplex_services.registration._registries import open_registry
from duplex_services.registration._rules._layouts import (
    Address,
    consul_entry,
    consul_service,
    key_of,
    read_url,
    skydns_prefix,
    skydns_value,
    zookeeper_key,
    zookeeper_value,
)
from tests.services.registration.made import BOTH, container, one, services


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("consul://", Address("127.0.0.1", 8500)),
        ("consul:///", Address("127.0.0.1", 8500)),
        ("consul://h:1", Address("h", 1)),
        ("consul://[::1]:1", Address("::1", 1)),
        ("consulkv://h/a/b/", Address("h", 8500, "", "a/b")),
        ("consulkv://h/a%20b", Address("h", 8500, "", "a b")),
        ("consul-unix:///run/consul.sock", Address("localhost", 8500, "/run/consul.sock")),
        ("consulkv-unix:///run/consul.sock:/a/b", Address("localhost", 8500, "/run/consul.sock", "a/b")),
    ],
)
def test_url(text: str, found: Address) -> None:
    assert read_url(text, 8500) == found


@pytest.mark.parametrize("text", ["consul", "consul:h", "consul://h:x", "consul://h?x=1", "consul://a@h", "consul-unix://", "consul-unix://a"])  # fmt: skip
def test_what_is_no_url(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bad adapter uri"):
        read_url(text, 8500)
    with pytest.raises(duplex.ConfigurationError, match=r"bad adapter uri"):
        open_registry(text, "me", tmp_path, 0.0)


def test_key() -> None:
    service = one(container(), compat=True)
    assert key_of(service) == "web/h1:web.1:80"
    assert zookeeper_key(service) == "web/192.0.2.1:8000"
    for wrong in ({"SERVICE_ID": "a/b"}, {"SERVICE_NAME": "a/b"}):
        with pytest.raises(ValueError, match="cannot be a part of a key"):
            key_of(one(container(labels=wrong)))


def test_value_has_brackets_around_ipv6() -> None:
    found = services(container(ports=["0.0.0.0:1:80", "[::]:2:80"]), host=BOTH)
    assert [service.address for service in found] == ["192.0.2.1:1", "[2001:db8::1]:2"]


def test_skydns() -> None:
    assert skydns_prefix("cluster.local") == "skydns/local/cluster"
    assert skydns_value(one(container())) == '{"host":"192.0.2.1","port":8000}'
    with pytest.raises(ValueError, match="needs a domain"):
        skydns_prefix("")


def test_service_of_consul() -> None:
    labels = {"SERVICE_TAGS": "a,b", "SERVICE_REGION": "eu", "SERVICE_CHECK_TCP": "1"}
    service = one(container(labels=labels), compat=True)
    body = consul_service(service, "me")
    digest = body["Meta"].pop("registrar_check")
    assert body == {
        "ID": "h1:web.1:80",
        "Name": "web",
        "Port": 8000,
        "Tags": ["b", "a"],
        "Address": "192.0.2.1",
        "Meta": {"region": "eu", "check_tcp": "1", "registrar": "me"},
        "Check": {"TCP": "192.0.2.1:8000", "Interval": "10s"},
    }
    other = one(container(labels=labels | {"SERVICE_CHECK_INTERVAL": "5s"}), compat=True)
    assert consul_service(other, "me")["Meta"]["registrar_check"] != digest
    assert "registrar_check" not in consul_service(one(container()), "me")["Meta"]


def test_entry_of_consul_is_the_same_as_told_and_as_listed() -> None:
    body = consul_service(one(container()), "me")
    listed = {"ID": body["ID"], "Service": body["Name"], "Tags": [], "Meta": body["Meta"], "Port": 8000}
    listed |= {"Address": "192.0.2.1", "Weights": {"Passing": 1}}
    assert consul_entry(listed) == consul_entry(body)
    assert consul_entry(listed | {"Meta": None}).owner == ""
    assert consul_entry(body, "maintenance", "x").state == "maintenance"


def test_ledger_knows_what_was_written_after_a_crash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "etcd://h")
    assert not ledger.has("k", "1")
    ledger.will_write("k", "1")
    ledger.will_write("k", "2")
    ledger.will_write("k", "2")
    again = Ledger(tmp_path, "etcd://h")
    # Whether the second was written is not known.
    assert again.has("k", "1")
    assert again.has("k", "2")
    again.will_write("k", "3")
    assert not again.has("k", "1")
    assert not Ledger(tmp_path, "etcd://other").has("k", "3")
    again.has_dropped("k")
    again.has_dropped("k")
    assert not Ledger(tmp_path, "etcd://h").has("k", "3")
    for path in tmp_path.glob("written-*"):
        path.write_text("{")
    assert not Ledger(tmp_path, "etcd://h").has("k", "3")
    with pytest.raises(OSError, match="No such file"):
        Ledger(tmp_path / "none", "x").will_write("k", "1")


def test_registries(tmp_path: Path) -> None:
    for text in (
        "consul://",
        "consul-unix:///s",
        "consulkv://h/p",
        "etcd://h/p",
        "skydns2://h/cluster.local",
    ):
        assert open_registry(text, "me", tmp_path, 0.0).name == text
    assert open_registry("consul-tls://h", "me", tmp_path, 0.0, {}).name == "consul-tls://h"
    with pytest.raises(duplex.ConfigurationError, match="CONSUL_CACERT"):
        open_registry("consul-tls://h", "me", tmp_path, 0.0, {"CONSUL_CACERT": str(tmp_path / "none")})
    with pytest.raises(duplex.ConfigurationError, match="CONSUL_CACERT"):
        open_registry("consul-tls://h", "me", tmp_path, 0.0, {"CONSUL_CLIENT_CERT": str(tmp_path / "none")})
    with pytest.raises(duplex.ConfigurationError, match="needs a domain"):
        open_registry("skydns2://h", "me", tmp_path, 0.0)


def test_zookeeper() -> None:
    service = one(container(labels={"SERVICE_TAGS": "a,b", "SERVICE_REGION": "eu"}), compat=True)
    assert zookeeper_value(service) == (
        '{"Name":"web","IP":"192.0.2.1","PublicPort":8000,"PrivatePort":80,"ContainerID":"host1",'
        '"Tags":["b","a"],"Attrs":{"region":"eu"}}'
    )
