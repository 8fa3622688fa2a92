"""What a source of containers is to the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from duplex_services.registration._model import Container


class Source(Protocol):
    """Tells what runs.

    Attributes:
        name: what people call it, such as ``docker``; one of a name.
        containers: all that it knows, as it was known last; ``None`` if it never was.
        trouble: why that may be old; empty if it is not.
    """

    name: str
    containers: tuple[Container, ...] | None
    trouble: str

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep ``containers`` true until cancelled, and tell when it has become different."""

    async def look(self) -> None:
        """Look once.

        Raises:
            SourceError: it is away.
        """


class SourceError(Exception):
    """A source cannot be asked."""
