"""Services that every peer offers: what it has, and how it is."""

from __future__ import annotations

from duplex.builtin._health import HealthStatus, health_service
from duplex.builtin._reflection import ServiceSummary, reflection_service

__all__ = ("HealthStatus", "ServiceSummary", "health_service", "reflection_service")
