"""Containers as tests have them."""

from __future__ import annotations

from typing import Any

from duplex_services.registration._model import (
    Binding,
    Container,
    Finding,
    Host,
    Network,
    Options,
    Port,
    Service,
)
from duplex_services.registration._rules._desired import desired
from duplex_services.registration._rules._inspecting import read_port

#: The host of most tests.
HOST = Host("h1", four="192.0.2.1")
BOTH = Host("h1", four="192.0.2.1", six="2001:db8::1")


def container(number: int = 1, **given: Any) -> Container:
    """A container that runs, in the default network; ``ports`` are as ``-p`` and ``EXPOSE`` have them.

    ``ports=["8000:80", "127.0.0.1:53:53/udp", "443"]`` publishes 80 and 53 and only exposes 443.
    """
    exposed, published = _ports(given.pop("ports", ["8000:80"]))
    values: dict[str, Any] = {
        "id": f"{number:x}".rjust(4, "c") + "0" * 60,
        "name": f"web.{number}",
        "image": "example/web:2",
        "hostname": f"host{number}",
        "exposed": exposed,
        "published": published,
        "networks": (Network("bridge", f"172.17.0.{number + 1}"),),
        "created": float(number),
    }
    return Container(**(values | given))


def _ports(texts: list[str]) -> tuple[tuple[Port, ...], dict[Port, tuple[Binding, ...]]]:
    published: dict[Port, tuple[Binding, ...]] = {}
    for text in texts:
        outside, _, inside = text.rpartition(":")
        port = read_port(inside)
        address, _, number = outside.rpartition(":")
        bindings = (Binding(address.strip("[]"), int(number)),) if outside else ()
        published[port] = published.get(port, ()) + bindings
    return tuple(sorted(published)), published


def services(*containers: Container, host: Host = HOST, **options: Any) -> list[Service]:
    """What is to be listed of containers."""
    return list(desired(containers, Options(**options), host, now=1000.0).services)


def one(made: Container, host: Host = HOST, **options: Any) -> Service:
    """The only service of a container."""
    (service,) = services(made, host=host, **options)
    return service


def findings(*containers: Container, host: Host = HOST, **options: Any) -> list[Finding]:
    """What became of each port of containers."""
    return list(desired(containers, Options(**options), host, now=1000.0).findings)


def why(*containers: Container, host: Host = HOST, **options: Any) -> list[str]:
    """Why nothing is listed of containers."""
    assert services(*containers, host=host, **options) == []
    return [finding.why for finding in findings(*containers, host=host, **options)]
