"""The calling side: proxies that make calls look like functions."""

from __future__ import annotations

from duplex.client._proxy import MethodProxy, ServiceProxy
from duplex.client._typed import typed_proxy

__all__ = ("MethodProxy", "ServiceProxy", "typed_proxy")
