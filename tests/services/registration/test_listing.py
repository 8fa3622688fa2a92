"""What is listed of containers, and why, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from duplex_services.registration._model import Binding, Host, Network, Options, Port, Service
from duplex_services.registration._rules._desired import PAUSED, STOPPING, UNHEALTHY, desired
from duplex_services.registration._rules._exits import is_success
from duplex_services.registration._rules._naming import image_name
from tests.services.registration.made import BOTH, HOST, container, findings, one, services, why

FRONT = Network("front", "10.5.0.2", "fd00:5::2")
BACK = Network("back", "10.6.0.2")


def addresses(made: Any, host: Host = HOST, **options: Any) -> list[str]:
    return [service.address for service in services(made, host=host, **options)]


# -- addresses: R-3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "host", "expected"),
    [
        # The default network, published everywhere.
        ({"ports": ["8000:8000"]}, {}, HOST, ["192.0.2.1:8000"]),
        ({"ports": ["0.0.0.0:8000:8000"]}, {}, HOST, ["192.0.2.1:8000"]),
        ({"ports": ["10.1.1.1:8000:8000"]}, {}, HOST, ["10.1.1.1:8000"]),
        # On loopback only where a label says so.
        ({"ports": ["127.0.0.1:32768:80"], "labels": {"SERVICE_ADDRESS": "published"}}, {}, HOST, ["127.0.0.1:32768"]),
        # Both families, each with its own port; and none of a family that the host does not have.
        ({"ports": ["0.0.0.0:32774:80", "[::]:32773:80"]}, {}, BOTH, ["192.0.2.1:32774", "[2001:db8::1]:32773"]),
        ({"ports": ["0.0.0.0:32774:80", "[::]:32773:80"]}, {}, HOST, ["192.0.2.1:32774"]),
        ({"ports": ["0.0.0.0:32774:80", "[::]:32773:80"]}, {}, Host("h1", six="2001:db8::1"), ["[2001:db8::1]:32773"]),
        ({"ports": ["127.0.0.1:1:80", "0.0.0.0:32774:80"]}, {}, HOST, ["192.0.2.1:32774"]),
        # Of several networks the one that a label, or the options, say.
        ({"networks": (FRONT, BACK), "labels": {"SERVICE_NETWORK": "back"}}, {"internal": True}, HOST, ["10.6.0.2:80"]),
        ({"networks": (FRONT, BACK), "labels": {"SERVICE_80_NETWORK": "back"}}, {}, HOST, ["10.6.0.2:80"]),
        ({"networks": (FRONT, BACK)}, {"internal": True, "networks": ("x", "back", "front")}, HOST, ["10.6.0.2:80"]),
        ({"networks": (BACK,)}, {"internal": True}, HOST, ["10.6.0.2:80"]),
        # A network with IPv6.
        ({"networks": (FRONT,)}, {"internal": True}, HOST, ["10.5.0.2:80", "[fd00:5::2]:80"]),
        ({"networks": (Network("six", "", "fd00:5::2"),)}, {"internal": True}, HOST, ["[fd00:5::2]:80"]),
        # The host's network.
        ({"mode": "host", "networks": (), "labels": {"SERVICE_80_NAME": "x"}, "published": {}}, {}, HOST, ["192.0.2.1:80"]),
        ({"mode": "host", "networks": (), "labels": {"SERVICE_NAME": "x"}, "published": {}}, {}, HOST, ["192.0.2.1:80"]),
        ({"mode": "host", "networks": (), "published": {}}, {"host_ports": "exposed"}, Host("h", six="fd00::1"), ["[fd00::1]:80"]),
        # What somebody says wins.
        ({"labels": {"SERVICE_ADDRESS": "web.example"}}, {}, BOTH, ["web.example:8000"]),
        ({"labels": {"SERVICE_ADDRESS": ""}}, {}, HOST, ["192.0.2.1:8000"]),
        ({"labels": {"ip": "10.9.9.9/24"}}, {"address_label": "ip"}, HOST, ["10.9.9.9:8000"]),
        ({"labels": {"ip": "10.9.9.9"}}, {"address_label": "ip"}, HOST, ["10.9.9.9:8000"]),
        ({}, {"host_address": "203.0.113.7"}, HOST, ["203.0.113.7:8000"]),
        ({"ports": ["[::]:8000:80"]}, {"host_address": "fd00::7"}, HOST, ["[fd00::7]:8000"]),
    ],
)  # fmt: skip
def test_address(given: dict[str, Any], options: dict[str, Any], host: Host, expected: list[str]) -> None:
    assert addresses(container(**given), host=host, **options) == expected


@pytest.mark.parametrize(
    ("given", "options", "host", "reason"),
    [
        ({"ports": ["127.0.0.1:32768:80"]}, {}, HOST, "it is published on loopback only (SERVICE_ADDRESS=published lists it so)"),
        ({"ports": ["[::1]:32768:80"]}, {}, HOST, "it is published on loopback only (SERVICE_ADDRESS=published lists it so)"),
        ({"networks": (FRONT, BACK)}, {"internal": True}, HOST, "ambiguous networks back, front: say which with SERVICE_NETWORK or --network"),
        ({"networks": (FRONT, BACK)}, {"internal": True, "networks": ("x",)}, HOST, "ambiguous networks back, front: say which with SERVICE_NETWORK or --network"),
        ({"networks": (FRONT,), "labels": {"SERVICE_NETWORK": "x"}}, {}, HOST, "SERVICE_NETWORK is x, but the container is in front"),
        ({"networks": (), "labels": {"SERVICE_NETWORK": "x"}}, {}, HOST, "SERVICE_NETWORK is x, but the container is in no network"),
        ({"networks": ()}, {"internal": True}, HOST, "the container is in no network"),
        ({"networks": (Network("x"),)}, {"internal": True}, HOST, "the container has no address in the network x"),
        ({"mode": "none", "networks": (), "ports": ["80"]}, {}, HOST, "the container has no network"),
        ({"ports": ["80"]}, {}, HOST, "it is not published (-p), and --internal is not given"),
        ({}, {}, Host("h1"), "this host has no IPv4 address to tell others (--advertise)"),
        ({"ports": ["[::]:1:80"]}, {}, HOST, "this host has no IPv6 address to tell others (--advertise)"),
        ({"mode": "host", "labels": {"SERVICE_80_NAME": "x"}, "published": {}}, {}, Host("h1"), "this host has no address to tell others (--advertise)"),
    ],
)  # fmt: skip
def test_no_address(given: dict[str, Any], options: dict[str, Any], host: Host, reason: str) -> None:
    assert why(container(**given), host=host, **options) == [reason]


def test_container_in_anothers_network() -> None:
    pod = container(1, ports=["8080:80"], labels={"SERVICE_IGNORE": "yes"})
    inside = container(
        2,
        mode=f"container:{pod.id}",
        exposed=(Port(80, "tcp"), Port(90, "tcp")),
        published={},
        networks=(),
    )
    # What the other one publishes is reached at the host, what it does not in its network.
    assert [service.address for service in services(pod, inside)] == ["192.0.2.1:8080", "172.17.0.2:90"]
    assert [service.address for service in services(pod, inside, internal=True)] == [
        "172.17.0.2:80",
        "172.17.0.2:90",
    ]
    assert why(inside)[0].endswith("whose network it uses, is not there")
    third = container(3, mode=f"container:{inside.id}", exposed=(Port(80, "tcp"),), published={})
    assert findings(inside, third)[-1].why == "it uses the network of a container that uses another one's"
    of_host = container(1, mode="host", ports=[], networks=())
    labelled = container(2, mode=f"container:{of_host.id}", exposed=(Port(80, "tcp"),), published={}, labels={"SERVICE_NAME": "x"})  # fmt: skip
    assert [service.address for service in services(of_host, labelled)] == ["192.0.2.1:80"]


def test_address_that_becomes_different_is_another_service_of_the_same_id() -> None:
    before = one(container(networks=(BACK,)), internal=True)
    after = one(container(networks=(Network("back", "10.6.0.9"),)), internal=True)
    assert (before.id, before.name) == (after.id, after.name)
    assert (before.host, after.host) == ("10.6.0.2", "10.6.0.9")


# -- ports: R-7 ------------------------------------------------------------------------------------------


def test_host_network_lists_what_labels_speak_of() -> None:
    made = container(
        mode="host",
        networks=(),
        exposed=(Port(80, "tcp"), Port(443, "tcp"), Port(9000, "tcp")),
        published={},
        labels={"SERVICE_443_NAME": "tls"},
    )
    assert [(service.name, service.port) for service in services(made)] == [("tls", 443)]
    skipped = {finding.port: finding.why for finding in findings(made) if not finding.service}
    assert skipped.keys() == {"80/tcp", "9000/tcp"}
    assert "no SERVICE_80_... speaks of this port" in skipped["80/tcp"]
    assert len(services(made, host_ports="exposed")) == 3
    assert [service.name for service in services(made, compat=True)] == ["web-80", "tls", "web-9000"]


def test_ports_that_are_not_listed_do_not_make_a_group() -> None:
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_443_IGNORE": "1"})
    assert one(made).name == "web"
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_443_NAME": "tls"})
    assert [service.name for service in services(made)] == ["web", "tls"]
    made = container(ports=["8000:80", "8443:443"])
    assert [service.name for service in services(made)] == ["web-80", "web-443"]
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_NAME": "a", "SERVICE_80_NAME": ""})
    assert [service.name for service in services(made)] == ["web-80", "a-443"]


def test_two_protocols_of_a_port_are_one_name_and_two_ids() -> None:
    found = services(container(ports=["53:53", "53:53/udp"]))
    assert [(service.name, service.protocol, service.tags) for service in found] == [
        ("web", "tcp", ()),
        ("web", "udp", ("udp",)),
    ]
    assert len({service.id for service in found}) == 2


@pytest.mark.parametrize(("value", "is_listed"), [("", True), ("false", True), ("0", True), ("No", True), ("1", False), ("x", False)])  # fmt: skip
def test_ignore(value: str, is_listed: bool) -> None:
    assert bool(services(container(labels={"SERVICE_IGNORE": value}))) is is_listed


def test_explicit() -> None:
    assert why(container(), explicit=True) == ["it has no SERVICE_NAME, and --explicit is given"]
    assert one(container(labels={"SERVICE_NAME": "a"}), explicit=True).name == "a"


def test_container_that_exposes_nothing() -> None:
    assert why(container(ports=[])) == ["it exposes no port"]


# -- names, ids, tags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis", "redis"),
        ("example/web:2", "web"),
        ("registry.example:5000/a/web", "web"),
        ("a/web:2@sha256:" + "0" * 64, "web"),
        ("web@sha256:" + "0" * 64, "web"),
        ("sha256:" + "0" * 64, ""),
        ("0123456789ab", ""),
        ("deadbeef", "deadbeef"),
    ],
)
def test_name_of_an_image(image: str, name: str) -> None:
    assert image_name(image) == name


def test_image_without_a_name_needs_one() -> None:
    made = container(image="sha256:" + "0" * 64)
    assert "has no name: say one with SERVICE_NAME" in why(made)[0]
    assert one(container(image="sha256:" + "0" * 64, labels={"SERVICE_NAME": "a"})).name == "a"


def test_id_is_of_the_container_and_stays_when_it_is_renamed() -> None:
    made = container(1, ports=["0.0.0.0:1:53/udp", "[::]:2:53/udp"])
    ids = [service.id for service in services(made, host=BOTH)]
    assert ids == [f"{made.short}-53-udp", f"{made.short}-53-udp-v6"]
    renamed = container(1, ports=["0.0.0.0:1:53/udp", "[::]:2:53/udp"], name="other", hostname="x")
    assert [service.id for service in services(renamed, host=Host("h2", BOTH.four, BOTH.six))] == ids
    assert one(container(labels={"SERVICE_ID": "mine"})).id == "mine"


def test_an_id_that_two_containers_want_is_the_older_ones() -> None:
    older = container(1, labels={"SERVICE_ID": "mine"})
    younger = container(2, labels={"SERVICE_ID": "mine"})
    assert [service.container for service in services(younger, older)] == [older.id]
    told = {finding.container: finding for finding in findings(younger, older)}
    assert told[older.id].why == ""
    assert told[younger.id].service == ""
    assert told[younger.id].why == "web has mine already: it is of the container web.1"


def test_tags_in_order_and_each_once() -> None:
    service = one(container(labels={"SERVICE_TAGS": r"master,backups,a\,b,master"}), tags="all,master")
    assert service.tags == ("master", "backups", "a,b", "all")


def test_attributes_and_checks_apart() -> None:
    made = container(
        labels={"SERVICE_REGION": "eu", "SERVICE_CHECK_HTTP": "/x", "SERVICE_CHECK_TCP": "", "SERVICE_NETWORK": "bridge"}
    )  # fmt: skip
    service = one(made)
    assert service.attributes == {"region": "eu"}
    assert service.checks == {"http": "/x"}


# -- states: R-5, R-9 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "state", "note"),
    [
        ({}, "passing", ""),
        ({"health": "healthy"}, "passing", ""),
        ({"health": "unhealthy"}, "critical", UNHEALTHY),
        ({"status": "paused"}, "maintenance", PAUSED),
        ({"status": "paused", "health": "unhealthy"}, "maintenance", PAUSED),
        ({"is_stopping": True}, "draining", STOPPING),
        ({"is_stopping": True, "health": "unhealthy"}, "draining", STOPPING),
    ],
)
def test_state(given: dict[str, Any], state: str, note: str) -> None:
    service = one(container(**given))
    assert (service.state, service.note) == (state, note)


def test_not_before_it_is_healthy() -> None:
    assert why(container(health="starting")) == ["its health check has not passed yet"]


@pytest.mark.parametrize("status", ["created", "restarting", "removing"])
def test_container_without_a_process(status: str) -> None:
    assert why(container(status=status)) == [f"it is {status}"]


@pytest.mark.parametrize(
    ("code", "success"), [(0, True), (1, False), (127, False), (128, True), (137, True), (143, True), (255, True), (256, False)]
)  # fmt: skip
def test_exits_that_withdraw_with_on_success(code: int, success: bool) -> None:
    assert is_success(code) is success


def after_exit(now: float, code: int = 0, **options: Any) -> tuple[Service, ...]:
    made = container()
    alive = desired([made], Options(**options), HOST, now=0.0)
    ended = container(status="exited", exit_code=code, finished=100.0, published={}, networks=())
    return desired([ended], Options(**options), HOST, now=now, before=alive.services).services


@pytest.mark.parametrize(
    ("code", "options", "now", "is_kept"),
    [
        (0, {}, 100.0, False),
        (3, {}, 100.0, False),
        (0, {"deregister": "on-success"}, 100.0, False),
        (137, {"deregister": "on-success"}, 100.0, False),
        (3, {"deregister": "on-success"}, 1e9, True),
        (3, {"deregister": "on-success", "ttl": 30.0}, 129.0, True),
        (3, {"deregister": "on-success", "ttl": 30.0}, 130.0, False),
        (0, {"keep_exited": 600.0}, 699.0, True),
        (0, {"keep_exited": 600.0}, 700.0, False),
        (3, {"deregister": "on-success", "compat": True}, 1e9, True),
    ],
)
def test_after_an_exit(code: int, options: dict[str, Any], now: float, is_kept: bool) -> None:
    found = after_exit(now, code, **options)
    assert bool(found) is is_kept
    for service in found:
        assert service.state == "critical"
        assert service.note == f"exited {code} at 1970-01-01T00:01:40Z"
        assert service.port == 8000


def test_exit_is_told() -> None:
    ended = container(status="exited", finished=100.0)
    assert why(ended) == ["exited 0 at 1970-01-01T00:01:40Z"]
    assert why(ended, keep_exited=1e9) == ["exited 0 at 1970-01-01T00:01:40Z; it was not listed before"]
    before = services(container())
    (told,) = desired([ended], Options(keep_exited=1e9), HOST, now=200.0, before=before).findings
    assert (told.port, told.service, told.id) == ("80/tcp", "web", before[0].id)


def test_bindings_of_a_port_are_told_once_for_each_family() -> None:
    made = container(published={Port(80, "tcp"): (Binding("0.0.0.0", 1), Binding("0.0.0.0", 2))})
    assert addresses(made) == ["192.0.2.1:1"]


def test_address_that_is_a_name_is_not_loopback() -> None:
    # Engines may tell a name of an interface's, as Podman's do.
    assert addresses(container(ports=["eth0.example:8000:80"])) == ["eth0.example:8000"]
