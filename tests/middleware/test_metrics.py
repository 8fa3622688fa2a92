"""Metrics for Prometheus, read from what is counted anyway."""

from __future__ import annotations

import sys

import prometheus_client
import pytest

import duplex
from duplex.middleware import prometheus_collector
from duplex.middleware._metrics import _buckets
from tests.engine.helpers import linked

things = duplex.Service("things")


@things.rpc
async def echo(value: bytes) -> bytes:
    return value


@things.rpc
async def fail() -> None:
    raise duplex.NotFound("no")


async def test_what_is_scraped() -> None:
    async with linked(things) as pair:
        registry = prometheus_client.CollectorRegistry()
        registry.register(prometheus_collector(pair.server))
        assert registry.get_sample_value("duplex_links") == 1
        for _ in range(3):
            await pair.service("things").echo(bytes(1000))
        with pytest.raises(duplex.NotFound):
            await pair.service("things").fail()
        echo = {"method": "things.echo", "direction": "served"}
        fail = {"method": "things.fail", "direction": "served"}
        assert registry.get_sample_value("duplex_call_duration_seconds_count", echo) == 3
        assert registry.get_sample_value("duplex_call_duration_seconds_bucket", {**echo, "le": "+Inf"}) == 3
        assert 0 < (registry.get_sample_value("duplex_call_duration_seconds_sum", echo) or 0) < 10
        assert registry.get_sample_value("duplex_call_errors_total", {**fail, "status": "NOT_FOUND"}) == 1
        assert (registry.get_sample_value("duplex_received_bytes_total", echo) or 0) > 3000
        assert (registry.get_sample_value("duplex_sent_bytes_total", echo) or 0) > 3000
        assert registry.get_sample_value("duplex_calls_in_flight", echo) == 0
        assert registry.get_sample_value("duplex_credit_waits_total", echo) == 0
        text = prometheus_client.generate_latest(registry).decode()
        assert 'duplex_call_duration_seconds_count{direction="served",method="things.echo"} 3.0' in text


async def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"pip install 'duplex-rpc\[metrics\]'"):
            prometheus_collector(peer)


def test_buckets_are_powers_of_two() -> None:
    bounds = [1e-6 * 2.0 ** (step / 8) for step in range(241)]
    found = _buckets([(bounds[0], 1), (bounds[32], 2), (bounds[33], 4), (bounds[240], 8), (float("inf"), 16)])
    assert found[:2] == [(repr(1.6e-05), 3), (repr(3.2e-05), 7)]
    assert [count for _, count in found[-2:]] == [15, 31]
    assert found[-1][0] == "+Inf"
    assert len(found) == 28
    counts = [count for _, count in found]
    assert counts == sorted(counts)
