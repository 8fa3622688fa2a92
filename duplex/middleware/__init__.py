"""Middleware that is ready to use: a log of calls, limits, and traces; and metrics for Prometheus.

Give it to ``open_peer(middleware=[...])``, a service or a method; the log and traces also to ``open_peer(call_middleware=[...])``.
"""

from __future__ import annotations

from duplex.middleware._limits import limit_concurrency, limit_rate
from duplex.middleware._log import log_calls, log_unserved
from duplex.middleware._metrics import PrometheusCollector, prometheus_collector
from duplex.middleware._trace import trace_calls

__all__ = (
    "PrometheusCollector",
    "limit_concurrency",
    "limit_rate",
    "log_calls",
    "log_unserved",
    "prometheus_collector",
    "trace_calls",
)
