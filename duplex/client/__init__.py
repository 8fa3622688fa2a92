"""The calling side: proxies that make calls look like functions."""

from __future__ import annotations

from duplex.client._proxy import MethodProxy, ServiceProxy
from duplex.client._typed import service_name_of, typed_proxy

__all__ = ("MethodProxy", "ServiceProxy", "service_name_of", "typed_proxy")
