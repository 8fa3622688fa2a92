"""A container, from what the Docker API says of it. ``NetworkSettings.Networks`` alone tells addresses: Docker 29 has no others."""

from __future__ import annotations

import datetime as dt
import re
import signal
from collections.abc import Mapping
from typing import Any, Final, cast

from duplex_services.registration._model import Binding, Container, Health, Network, Port

_SIGTERM: Final = 15
_HEALTH: Final[Mapping[str, Health]] = {
    "starting": "starting",
    "healthy": "healthy",
    "unhealthy": "unhealthy",
}


def read_container(data: Mapping[str, Any]) -> Container:
    """Return a container from the answer to ``GET /containers/ID/json``.

    Raises:
        ValueError: that is none.
    """
    try:
        return _read(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no container: {type(error).__name__}: {error}") from error


def _read(data: Mapping[str, Any]) -> Container:
    config = cast("dict[str, Any]", data["Config"])
    state = cast("dict[str, Any]", data["State"])
    networking = data.get("NetworkSettings") or {}
    health = (state.get("Health") or {}).get("Status", "")
    return Container(
        id=data["Id"],
        name=data["Name"].lstrip("/"),
        image=config.get("Image") or "",
        hostname=config.get("Hostname") or "",
        status=state["Status"],
        health=_HEALTH.get(health, ""),
        environment=tuple(config.get("Env") or ()),
        labels=dict(config.get("Labels") or {}),
        exposed=tuple(sorted(read_port(text) for text in config.get("ExposedPorts") or ())),
        published={
            read_port(text): tuple(
                Binding(one.get("HostIp") or "", int(one.get("HostPort") or 0)) for one in bindings or ()
            )
            for text, bindings in (networking.get("Ports") or {}).items()
        },
        mode=_mode((data.get("HostConfig") or {}).get("NetworkMode") or "bridge"),
        networks=tuple(
            Network(name, one.get("IPAddress") or "", one.get("GlobalIPv6Address") or "")
            for name, one in sorted((networking.get("Networks") or {}).items())
            if name != "host" and name != "none"
        ),
        stop_signal=read_signal(config.get("StopSignal") or ""),
        exit_code=state.get("ExitCode") or 0,
        created=read_time(data.get("Created") or ""),
        started=state.get("StartedAt") or "",
        finished=read_time(state.get("FinishedAt") or ""),
        inspected=dict(data),
    )


def _mode(text: str) -> str:
    return "bridge" if text == "default" else text


def read_port(text: str) -> Port:
    """Return a port from ``80/tcp``, or ``80``.

    Raises:
        ValueError: it is none.
    """
    number, _, protocol = text.partition("/")
    return Port(int(number), protocol or "tcp")


def read_signal(text: str) -> int:
    """Return the number of a signal from ``SIGTERM``, ``TERM`` or ``15``; SIGTERM's for what is none."""
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"(?:SIG)?RTMIN(?:\+([0-9]+))?", text)
    if match is not None:
        # C libraries count from different numbers; Docker has 34.
        return 34 + int(match[1] or 0)
    name = text if text.startswith("SIG") else f"SIG{text}"
    found = signal.Signals.__members__.get(name)
    return _SIGTERM if found is None else int(found)


def read_time(text: str) -> float:
    """Return a time as Docker tells it, in seconds since 1970; 0 for none."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None or text.startswith("0001-"):
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = dt.datetime.fromisoformat(match[1] + zone).timestamp()
    return whole + float(match[2] or 0)


def outline(listed: Mapping[str, Any]) -> str:
    """Return what a line of ``GET /containers/json`` says that may become different, in one text.

    The status has the time since it began, which says nothing; what is in parentheses there does: health and exit code.
    """
    status = re.findall(r"\([^)]*\)", listed.get("Status") or "")
    networks = ((listed.get("NetworkSettings") or {}).get("Networks") or {}).items()
    addresses = [(name, one.get("IPAddress"), one.get("GlobalIPv6Address")) for name, one in sorted(networks)]
    ports = sorted(
        str(sorted((key, str(value)) for key, value in one.items())) for one in listed.get("Ports") or ()
    )
    return repr((listed.get("State"), listed.get("Names"), status, addresses, ports))
