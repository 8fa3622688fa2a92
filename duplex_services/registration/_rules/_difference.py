"""What is to be done, so that a registry has what is to be listed: a function of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from duplex_services.registration._model import Entry, Service


class Put(msgspec.Struct, frozen=True):
    """List a service.

    Attributes:
        entry: what the registry is to have.
        service: the service.
        before: what it has; ``None`` if nothing.
    """

    entry: Entry
    service: Service
    before: Entry | None = None


class Drop(msgspec.Struct, frozen=True):
    """List something no more.

    Attributes:
        entry: what the registry has.
        why: for those who ask.
    """

    entry: Entry
    why: str


Action: TypeAlias = Put | Drop


class Refusal(msgspec.Struct, frozen=True):
    """A service that a registry does not get.

    Attributes:
        service: which.
        why: for those who ask.
    """

    service: Service
    why: str


class Difference(msgspec.Struct, frozen=True):
    """What is to be done.

    Attributes:
        actions: what goes first, then what comes, each sorted by its key.
        refusals: what cannot be done.
    """

    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def difference(
    services: Iterable[Service],
    actual: Mapping[str, Entry],
    owner: str,
    entry_of: Callable[[Service], Entry],
) -> Difference:
    """Return what makes a registry have some services, and of this owner nothing else. What is of others stays as it is.

    Args:
        services: that are to be listed.
        actual: what the registry has, by key; what others have written may be left out where no key can be the same.
        owner: who asks.
        entry_of: what the registry has of a service; raises ``ValueError`` where it cannot have it.
    """
    puts: dict[str, Put] = {}
    refusals: list[Refusal] = []
    for service in services:
        try:
            entry = entry_of(service)
        except ValueError as error:
            refusals.append(Refusal(service, str(error)))
            continue
        before = actual.get(entry.key)
        if before is not None and before.owner != owner:
            who = f"it is {before.owner}'s" if before.owner else "somebody else has written it"
            refusals.append(Refusal(service, f"{entry.key} is there already, and {who}"))
        elif entry.key in puts:
            refusals.append(
                Refusal(
                    service,
                    f"{entry.key} is already that of the container {puts[entry.key].service.container_name}",
                )
            )
        else:
            puts[entry.key] = Put(entry, service, before)
    drops = [
        Drop(entry, "its container does not run any more")
        for key, entry in sorted(actual.items())
        if entry.owner == owner and key not in puts
    ]
    return Difference(
        (*drops, *(put for _, put in sorted(puts.items()) if put.entry != put.before)), tuple(refusals)
    )
