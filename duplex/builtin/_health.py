"""``duplex.health``: whether a peer and its services take calls.

The shape is that of gRPC's health checking protocol (``grpc.health.v1``): ``check`` once, ``watch`` for
changes, ``list`` for all; the empty name means the peer as a whole.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import trio

from duplex._errors import NotFound
from duplex.service import Service


class HealthStatus(enum.Enum):
    """Whether calls are taken."""

    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"


class Health(Protocol):
    """What the service needs of a peer."""

    @property
    def services(self) -> Mapping[str, Any]:
        """What the peer offers, by name."""

    def health_of(self, service: str) -> bool:
        """Whether a service takes calls."""

    async def ask_health(self, service: str) -> None:
        """Return once it is known whether a service takes calls."""

    def health_ttl(self, service: str) -> float:
        """Return the seconds for which that is known then."""

    async def health_changed(self) -> None:
        """Return when something may have changed."""


def health_service(peer: Health) -> Service:
    """Make the service ``duplex.health`` of a peer."""
    service = Service(
        "duplex.health", version="1.0.0", description="Whether this peer takes calls.", builtin=True
    )

    def status(name: str) -> HealthStatus:
        if name and name not in peer.services:
            raise NotFound(f"there is no service {name!r} here; there are {', '.join(sorted(peer.services))}")
        return HealthStatus.SERVING if peer.health_of(name) else HealthStatus.NOT_SERVING

    @service.rpc(idempotent=True)
    async def check(service: str = "") -> HealthStatus:
        """Tell whether a service takes calls; without a name, whether the peer does.

        Raises NotFound if there is no such service.
        """
        await peer.ask_health(service)
        return status(service)

    @service.rpc(idempotent=True)
    async def watch(service: str = "") -> AsyncIterator[HealthStatus]:
        """Stream the status of a service: the present one at once, then every change."""
        told: HealthStatus | None = None
        while True:
            await peer.ask_health(service)
            # Asked again after every yield, which may have taken long: nothing that happened then is missed.
            present = status(service)
            if present is not told:
                told = present
                yield present
            else:
                with trio.move_on_after(peer.health_ttl(service)):
                    await peer.health_changed()

    @service.rpc(name="list", idempotent=True)
    async def list_() -> dict[str, HealthStatus]:
        """Return the status of every service, and of the peer under the empty name."""
        async with trio.open_nursery() as nursery:
            for name in peer.services:
                nursery.start_soon(peer.ask_health, name)
        return {name: status(name) for name in ("", *peer.services)}

    return service
