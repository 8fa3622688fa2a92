"""Containers, from what engines say of them."""

from __future__ import annotations

from typing import Any

import pytest

from duplex_services.registration._model import Binding, Network, Port
from duplex_services.registration._rules._inspecting import outline, read_container, read_signal, read_time
from duplex_services.registration._rules._versions import negotiate

INSPECTED: dict[str, Any] = {
    "Id": "0123456789abcdef" * 4,
    "Created": "2026-01-02T03:04:05.25Z",
    "Name": "/web.1",
    "State": {
        "Status": "running",
        "ExitCode": 0,
        "StartedAt": "2026-01-02T03:04:06Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "unhealthy"},
    },
    "HostConfig": {"NetworkMode": "default"},
    "Config": {
        "Hostname": "0123456789ab",
        "Image": "example/web:2",
        "Env": ["A=1"],
        "Labels": {"b": "2"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "StopSignal": "SIGQUIT",
    },
    "NetworkSettings": {
        # Only old engines have it; it is not looked at.
        "IPAddress": "172.17.0.99",
        "Ports": {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}, {"HostIp": "::", "HostPort": "8001"}],
            "53/udp": None,
        },
        "Networks": {
            "front": {"IPAddress": "10.0.0.2", "GlobalIPv6Address": "fd00::2"},
            "bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
        },
    },
}


def test_container_of_an_engine() -> None:
    found = read_container(INSPECTED)
    assert (found.id, found.name, found.image) == (INSPECTED["Id"], "web.1", "example/web:2")
    assert found.hostname == found.short == "0123456789ab"
    assert (found.status, found.health, found.mode, found.stop_signal) == (
        "running",
        "unhealthy",
        "bridge",
        3,
    )
    assert found.exposed == (Port(53, "udp"), Port(80, "tcp"))
    assert found.published == {
        Port(80, "tcp"): (Binding("0.0.0.0", 8000), Binding("::", 8001)),
        Port(53, "udp"): (),
    }
    assert found.networks == (Network("bridge", "172.17.0.2"), Network("front", "10.0.0.2", "fd00::2"))
    assert (found.created, found.finished, found.started) == (1767323045.25, 0.0, "2026-01-02T03:04:06Z")
    assert found.is_alive


def test_what_an_engine_leaves_out() -> None:
    found = read_container({"Id": "1", "Name": "a", "State": {"Status": "exited"}, "Config": {}})
    assert (found.networks, found.published, found.exposed, found.health) == ((), {}, (), "")
    assert found.mode == "bridge"
    nulls = {
        "Config": {"Env": None, "Labels": None, "ExposedPorts": None},
        "NetworkSettings": {"Ports": None},
    }
    assert read_container({"Id": "1", "Name": "a", "State": {"Status": "dead"}} | nulls).labels == {}


@pytest.mark.parametrize("name", ["host", "none"])
def test_networks_that_are_none(name: str) -> None:
    given = INSPECTED | {"NetworkSettings": {"Networks": {name: {"IPAddress": ""}}}}
    assert read_container(given).networks == ()


@pytest.mark.parametrize("given", [{}, {"Id": "1"}, {"Id": "1", "Name": None, "State": {}, "Config": {}}, {"Id": "1", "Name": "a", "State": [], "Config": {}}])  # fmt: skip
def test_what_is_no_container(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="this is no container"):
        read_container(given)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 15),
        ("SIGTERM", 15),
        ("TERM", 15),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMIN", 34),
        ("SIGNOTHING", 15),
    ],
)
def test_signal(text: str, number: int) -> None:
    assert read_signal(text) == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:01.5+01:00", 1.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("now", 0.0),
    ],
)
def test_time(text: str, seconds: float) -> None:
    assert read_time(text) == pytest.approx(seconds)


def line(**given: Any) -> dict[str, Any]:
    return {
        "Id": "1",
        "Names": ["/a"],
        "State": "running",
        "Status": "Up 2 minutes",
        "Ports": [{"PrivatePort": 80, "PublicPort": 1, "Type": "tcp"}, {"PrivatePort": 81, "Type": "tcp"}],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    } | given


def test_outline_of_a_line_says_what_may_become_different() -> None:
    first = outline(line())
    assert outline(line(Status="Up 3 minutes", Ports=list(reversed(line()["Ports"])))) == first
    others: list[dict[str, Any]] = [
        {"Names": ["/b"]},
        {"State": "paused"},
        {"Status": "Up 2 minutes (healthy)"},
        {"Status": "Exited (0) 1 second ago"},
        {"Ports": []},
        {"NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.3"}}}},
        {"NetworkSettings": None},
    ]
    for given in others:
        assert outline(line(**given)) != first, given


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [
        ("1.12", "1.41", "1.41"),
        ("1.24", "1.45", "1.45"),
        ("1.44", "1.52", "1.52"),
        ("1.44", "1.99", "1.52"),
        ("", "1.40", "1.40"),
    ],
)
def test_newest_version_that_both_speak(oldest: str, newest: str, spoken: str) -> None:
    assert negotiate(oldest, newest) == spoken


@pytest.mark.parametrize(
    ("oldest", "newest"), [("1.53", "1.60"), ("1.1", "1.23"), ("a", "b"), ("1.24", ""), ("1.2.3", "1.4.5")]
)
def test_no_version_that_both_speak(oldest: str, newest: str) -> None:
    with pytest.raises(ValueError, match=r"engine speaks|engine says") as found:
        negotiate(oldest, newest)
    assert newest in str(found.value)


def test_both_ranges_are_told() -> None:
    with pytest.raises(ValueError, match=r"1\.53 to 1\.60, and this registrator 1\.24 to 1\.52"):
        negotiate("1.53", "1.60")
