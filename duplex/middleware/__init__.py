"""Middleware that is ready to use: a log of calls, and limits.

Give it to ``open_peer(middleware=[...])``, a service or a method; the log also to ``open_peer(call_middleware=[...])``.
"""

from __future__ import annotations

from duplex.middleware._limits import limit_concurrency, limit_rate
from duplex.middleware._log import log_calls, log_unserved

__all__ = ("limit_concurrency", "limit_rate", "log_calls", "log_unserved")
