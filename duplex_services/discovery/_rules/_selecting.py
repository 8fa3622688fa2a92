"""Which instances somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from duplex_services.discovery._model import Instance


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What instances must have to be listed.

    Attributes:
        metadata: values by key; ``None`` asks for the key alone, whatever its value.
        zone: empty for any.
        protocol: empty for any.
        everything: instances in whatever state, not only those that serve.
    """

    metadata: dict[str, str | None] = {}
    zone: str = ""
    protocol: str = ""
    everything: bool = False

    @property
    def takes_all(self) -> bool:
        """Whether it asks for nothing in particular."""
        return not (self.metadata or self.zone or self.protocol)


#: All that serve.
NO_FILTER = Filter()


def select(instances: tuple[Instance, ...], wanted: Filter) -> tuple[Instance, ...]:
    """Return those instances that have what is wanted, whatever their state."""
    if wanted.takes_all:
        return instances
    zone, protocol, pairs = wanted.zone, wanted.protocol, wanted.metadata.items()
    found = []
    for instance in instances:
        if (zone and instance.zone != zone) or (protocol and instance.protocol != protocol):
            continue
        metadata = instance.metadata
        for key, value in pairs:
            if key not in metadata or (value is not None and metadata[key] != value):
                break
        else:
            found.append(instance)
    return tuple(found)


def misses(instance: Instance, wanted: Filter) -> Iterable[str]:
    """Tell what an instance does not have of what is wanted: why :func:`select` leaves it out."""
    if wanted.zone and instance.zone != wanted.zone:
        yield f"its zone is {instance.zone!r}, not {wanted.zone!r}"
    if wanted.protocol and instance.protocol != wanted.protocol:
        yield f"its protocol is {instance.protocol!r}, not {wanted.protocol!r}"
    for key, value in wanted.metadata.items():
        found = instance.metadata.get(key)
        if found is None:
            yield f"its metadata has no {key!r}"
        elif value is not None and found != value:
            yield f"its metadata has {key}={found!r}, not {value!r}"
