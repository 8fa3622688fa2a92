"""What a registry is to those who keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put


class TargetError(Exception):
    """A registry cannot be asked, or did not take something: it is tried again."""


class RefusedError(Exception):
    """A registry does not take something, and will not: it is not tried again until it is different."""


class Target(Protocol):
    """A registry.

    Attributes:
        name: what people call it, such as the URL that was given.
    """

    name: str

    def entry_of(self, service: Service) -> Entry:
        """Return what it is to have of a service.

        Raises:
            ValueError: it cannot have it, and why.
        """

    async def run(self, woken: Callable[[], None]) -> None:
        """Be linked with it until cancelled, and tell when there is reason to look."""

    async def entries(self) -> Mapping[str, Entry]:
        """Return what it has, by key.

        Raises:
            TargetError: it is away.
        """

    async def put(self, action: Put) -> None:
        """List a service.

        Raises:
            TargetError: it is not known whether that was done.
            RefusedError: it is not, and why.
        """

    async def drop(self, entry: Entry, why: str) -> None:
        """List something no more.

        Raises:
            TargetError, RefusedError: as :meth:`put`.
        """
