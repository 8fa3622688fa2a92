"""Where a peer can be connected, and what is known of it."""

from __future__ import annotations

import dataclasses
from typing import final

from duplex._balancing import check_weight
from duplex._errors import ConfigurationError
from duplex.transports import full_endpoint, scheme_of


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a service, and what is known of the peer there.

    Raises:
        ConfigurationError: a value is wrong.
    """

    #: Such as ``tcp://10.0.0.1:7700``.
    address: str
    #: How many calls the peer gets, as a multiple of what others get.
    weight: float = dataclasses.field(default=1.0, kw_only=True)
    #: Where it is, in words of those who run it: see ``zone`` of :meth:`duplex.Peer.connect_service`.
    zone: str = dataclasses.field(default="", kw_only=True)
    #: The service that it offers, where a list has those of several; empty: any.
    service: str = dataclasses.field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.address, str):
            raise ConfigurationError(f"Endpoint.address must be a str, not {self.address!r}")
        address = full_endpoint(self.address)
        scheme_of(address)
        object.__setattr__(self, "address", address)
        object.__setattr__(self, "weight", check_weight("Endpoint.weight", self.weight))
        for field in ("zone", "service"):
            if not isinstance(getattr(self, field), str):
                raise ConfigurationError(f"Endpoint.{field} must be a str, not {getattr(self, field)!r}")


def as_endpoint(value: str | Endpoint) -> Endpoint:
    """Return an endpoint, which may be given by its address alone."""
    return value if isinstance(value, Endpoint) else Endpoint(value)
