"""Checks as Consul's agent is told them: the first attribute that is there counts."""

from __future__ import annotations

from typing import Any

import pytest

from duplex_services.registration._rules._checks import consul_check, read_duration
from tests.services.registration.made import container, one

AT = "192.0.2.1:8000"


@pytest.mark.parametrize(
    ("said", "check"),
    [
        ({}, None),
        ({"INITIAL_STATUS": "passing", "INTERVAL": "3s"}, None),
        ({"HTTP": "/x"}, {"HTTP": f"http://{AT}/x", "Interval": "10s"}),
        ({"HTTP": "/x", "TIMEOUT": "1s", "HTTP_METHOD": "HEAD"}, {"HTTP": f"http://{AT}/x", "Method": "HEAD", "Timeout": "1s", "Interval": "10s"}),
        ({"HTTPS": "/x", "HTTPS_METHOD": "HEAD"}, {"HTTP": f"https://{AT}/x", "Method": "HEAD", "Interval": "10s"}),
        ({"HTTP": "/x", "TCP": "1"}, {"HTTP": f"http://{AT}/x", "Interval": "10s"}),
        ({"CMD": "a b", "TIMEOUT": "1s"}, {"Args": ["check-cmd", container().short, "80", "a b"], "Interval": "10s"}),
        ({"SCRIPT": "nc $SERVICE_IP $SERVICE_PORT"}, {"Args": ["nc 192.0.2.1 8000"], "Interval": "10s"}),
        ({"TTL": "30s"}, {"TTL": "30s"}),
        ({"TTL": "30s", "INTERVAL": "5s"}, {"TTL": "30s"}),
        ({"TCP": "true", "TIMEOUT": "1s", "INTERVAL": "5s"}, {"TCP": AT, "Timeout": "1s", "Interval": "5s"}),
        ({"GRPC": "1"}, {"GRPC": AT, "Interval": "10s"}),
        ({"GRPC": "1", "TLS_SKIP_VERIFY": "1"}, {"GRPC": AT, "Interval": "10s"}),
        ({"GRPC": "1", "GRPC_USE_TLS": "1", "TLS_SKIP_VERIFY": "1"}, {"GRPC": AT, "GRPCUseTLS": True, "TLSSkipVerify": True, "Interval": "10s"}),
        ({"TCP": "1", "INITIAL_STATUS": "passing", "DEREGISTER_AFTER": "10m"}, {"TCP": AT, "Interval": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "10m"}),
        ({"HTTP": "", "TCP": "1"}, {"TCP": AT, "Interval": "10s"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compat", [False, True])
def test_check(said: dict[str, str], check: dict[str, Any] | None, compat: bool) -> None:
    labels = {f"SERVICE_CHECK_{key}": value for key, value in said.items()}
    assert consul_check(one(container(labels=labels), compat=compat)) == check


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("2", 2.0),
        ("0.5", 0.5),
        ("3us", 3e-6),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert read_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10 s", "-1s", "1s2", "1d", "soon"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        read_duration(text)
