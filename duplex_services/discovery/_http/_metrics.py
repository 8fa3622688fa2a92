"""What a server of discovery has counted, as Prometheus scrapes it: ``GET /metrics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import msgspec

import duplex
from duplex.middleware import prometheus_collector
from duplex_services._shared._http_server import HttpServer
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._dns._options import DnsStatistics

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@final
class Metrics:
    """Tells what a directory knows, and what its fronts have done.

    Args:
        directory: which.
        http: the server of HTTP.
        peer: the one that serves the directory; ``None`` if there is none.
        dns: what the DNS front counts; ``None`` if there is none.
    """

    def __init__(
        self, directory: Directory, http: HttpServer, peer: duplex.Peer | None, dns: DnsStatistics | None
    ) -> None:
        self._directory = directory
        self._http = http
        self._peer = peer
        self._dns = dns

    def text(self) -> tuple[bytes, str]:
        """Return all of it as text, and the type of that.

        Raises:
            ConfigurationError: ``prometheus_client`` is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, exposition
        except ImportError:
            raise duplex.ConfigurationError(
                "metrics for Prometheus need the package prometheus-client: pip install 'duplex-rpc[metrics]'"
            ) from None
        registry = CollectorRegistry()
        registry.register(self)
        if self._peer is not None:
            registry.register(prometheus_collector(self._peer))
        return exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST

    def describe(self) -> list[Metric]:
        """Return nothing: it is asked each time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        reading, view = self._directory.reading, self._directory.reading.view
        states = Counter((one.instance.service, one.instance.state) for one in view.all_held())
        instances = _gauge("instances", "Instances that are known.", ["service", "state"])
        for (service, state), count in sorted(states.items()):
            instances.add_metric([service, state], count)
        yield instances
        status = reading.status()
        for name, text, value in (
            ("services", "Services that are known.", len(view.services())),
            ("servers", "Servers of discovery that live.", len(view.servers)),
            ("orphans", "Instances that no living server keeps.", len(view.orphans)),
            ("suspects", "Instances that have vanished in a way that says little.", len(view.suspects)),
            ("unreadable", "Keys of the store whose values make no sense.", len(view.unreadable)),
            ("index", "Of the last change.", status.as_of),
            ("stale", "1 while the store is away.", int(status.stale)),
            ("checked", "Instances whose health this server checks.", self._directory.checked),
            ("http_connections", "Connections of HTTP that are open.", self._http.connections),
        ):
            yield _gauge(name, text, value=value)
        if status.age is not None:
            yield _gauge("age_seconds", "Since what is known was surely all.", value=status.age)
        yield _counter("commits", "Commits that were sent to the store.", self._directory.commits)
        yield _counter("http_requests", "Requests of HTTP that were answered.", self._http.requests)
        if self._dns is not None:
            for name, value in msgspec.structs.asdict(self._dns).items():
                yield _counter(f"dns_{name}", f"Of DNS: {name}.", value)


def _gauge(name: str, text: str, labels: list[str] | None = None, value: float | None = None) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"duplex_discovery_{name}", text, labels=labels, value=value)


def _counter(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"duplex_discovery_{name}", text, value=value)
