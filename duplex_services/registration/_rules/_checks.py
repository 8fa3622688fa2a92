"""Checks that labels ask for, as Consul has them: ``SERVICE_[<port>_]CHECK_…``; the first one that is there counts."""

from __future__ import annotations

import re
from typing import Any, Final

from duplex_services.registration._model import Service

#: What Consul is told if nothing is said.
_INTERVAL: Final = "10s"

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def consul_check(service: Service) -> dict[str, Any] | None:
    """Return the check of a service as Consul's agent is told it; ``None`` if there is none."""
    said = service.checks
    check: dict[str, Any] = {}
    with_timeout = False
    if path := said.get("http"):
        check = {"HTTP": f"http://{service.address}{path}"} | _if("Method", said.get("http_method"))
        with_timeout = True
    elif path := said.get("https"):
        check = {"HTTP": f"https://{service.address}{path}"} | _if("Method", said.get("https_method"))
        with_timeout = True
    elif command := said.get("cmd"):
        check = {"Args": ["check-cmd", service.container[:12], str(service.inside), command]}
    elif script := said.get("script"):
        text = script.replace("$SERVICE_IP", service.host).replace("$SERVICE_PORT", str(service.port))
        check = {"Args": [text]}
    elif ttl := said.get("ttl"):
        check = {"TTL": ttl}
    elif said.get("tcp"):
        check = {"TCP": service.address}
        with_timeout = True
    elif said.get("grpc"):
        check = {"GRPC": service.address}
        with_timeout = True
        if said.get("grpc_use_tls"):
            check["GRPCUseTLS"] = True
            if said.get("tls_skip_verify"):
                check["TLSSkipVerify"] = True
    if not check:
        return None
    if with_timeout:
        check |= _if("Timeout", said.get("timeout"))
    if "TTL" not in check:
        check["Interval"] = said.get("interval", _INTERVAL)
    check |= _if("Status", said.get("initial_status"))
    return check | _if("DeregisterCriticalServiceAfter", said.get("deregister_after"))


def _if(key: str, value: str | None) -> dict[str, Any]:
    return {key: value} if value else {}


def read_duration(text: str) -> float:
    """Return a duration such as ``1m30s`` or ``500ms``, in seconds; a number alone is in seconds.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: such as 10s, 500ms or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
