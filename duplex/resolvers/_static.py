"""Endpoints that do not change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import final

import trio

from duplex.resolvers._endpoint import Endpoint, as_endpoint


@final
class StaticResolver:
    """Endpoints that do not change.

    Args:
        endpoints: all of them.

    Attributes:
        endpoints: the same.

    Raises:
        ConfigurationError: one is malformed.
    """

    def __init__(self, endpoints: Iterable[str | Endpoint]) -> None:
        self.endpoints = tuple(as_endpoint(endpoint) for endpoint in endpoints)

    def __repr__(self) -> str:
        return f"<{len(self.endpoints)} endpoints that do not change>"

    async def resolve(self, service: str) -> AsyncIterator[Sequence[Endpoint]]:
        """See :meth:`Resolver.resolve`."""
        await trio.lowlevel.checkpoint()
        yield self.endpoints
