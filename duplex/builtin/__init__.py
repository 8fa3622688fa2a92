"""Services that every peer offers: what it has, how it is, and what it has counted."""

from __future__ import annotations

from duplex.builtin._health import HealthStatus, health_service
from duplex.builtin._reflection import ServiceSummary, reflection_service
from duplex.builtin._stats import Snapshot, stats_service

__all__ = (
    "HealthStatus",
    "ServiceSummary",
    "Snapshot",
    "health_service",
    "reflection_service",
    "stats_service",
)
