"""Middleware that is ready to use: a log of calls, and limits; and metrics for Prometheus.

Give it to ``open_peer(middleware=[...])``, a service or a method; the log also to ``open_peer(call_middleware=[...])``.
"""

from __future__ import annotations

from duplex.middleware._limits import limit_concurrency, limit_rate
from duplex.middleware._log import log_calls, log_unserved
from duplex.middleware._metrics import PrometheusCollector, prometheus_collector

__all__ = (
    "PrometheusCollector",
    "limit_concurrency",
    "limit_rate",
    "log_calls",
    "log_unserved",
    "prometheus_collector",
)
