"""What a peer has counted of its calls, for Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import duplex

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def prometheus_collector(peer: duplex.Peer) -> PrometheusCollector:
    """Return a collector of a peer's statistics, to be registered with ``prometheus_client``.

    It reads what the peer counts anyway when it is scraped, so it costs a call nothing. Needs the extra ``metrics``.

    Args:
        peer: whose statistics they are. Scrape it from the peer's own thread.

    Raises:
        ConfigurationError: ``prometheus_client`` is not installed.
    """
    try:
        from prometheus_client import core
    except ImportError:
        raise duplex.ConfigurationError(
            "metrics for Prometheus need the package prometheus-client: pip install 'duplex-rpc[metrics]'"
        ) from None
    return PrometheusCollector(peer, core)


@final
class PrometheusCollector:
    """See :func:`prometheus_collector`, which makes it."""

    def __init__(self, peer: duplex.Peer, core: Any) -> None:
        self._peer = peer
        self._core = core

    def describe(self) -> list[Metric]:
        """Return nothing: names are not known before there are calls."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        core = self._core
        labels = ["method", "direction"]
        latency = core.HistogramMetricFamily(
            "duplex_call_duration_seconds", "Durations of calls that have ended.", labels=labels
        )
        errors = core.CounterMetricFamily(
            "duplex_call_errors", "Calls that have ended otherwise than well.", labels=[*labels, "status"]
        )
        in_flight = core.GaugeMetricFamily("duplex_calls_in_flight", "Calls under way.", labels=labels)
        received = core.CounterMetricFamily(
            "duplex_received_bytes", "Bytes of arguments, results and items that came.", labels=labels
        )
        sent = core.CounterMetricFamily(
            "duplex_sent_bytes", "Bytes of arguments, results and items that went.", labels=labels
        )
        waits = core.CounterMetricFamily(
            "duplex_credit_waits", "How often a call had to wait before it could send.", labels=labels
        )
        for one in self._peer.method_statistics():
            values = [one.method, one.direction]
            latency.add_metric(values, buckets=_buckets(one.latencies), sum_value=one.seconds)
            for status, count in one.errors.items():
                errors.add_metric([*values, status], count)
            in_flight.add_metric(values, one.in_flight)
            received.add_metric(values, one.bytes_received)
            sent.add_metric(values, one.bytes_sent)
            waits.add_metric(values, one.credit_waits)
        links = core.GaugeMetricFamily("duplex_links", "Links that are open.")
        links.add_metric([], len(self._peer.links))
        yield from (latency, errors, in_flight, received, sent, waits, links)


def _buckets(latencies: list[tuple[float, int]]) -> list[tuple[str, float]]:
    """Return how many calls took at most so long, for powers of two from 16 microseconds to 17 minutes."""
    found: list[tuple[str, float]] = []
    left = sorted(latencies)
    seen = 0
    for power in range(4, 31):
        bound = 1e-6 * 2.0**power
        while left and left[0][0] <= bound * (1 + 1e-9):
            seen += left.pop(0)[1]
        found.append((repr(bound), seen))
    found.append(("+Inf", seen + sum(count for _, count in left)))
    return found
