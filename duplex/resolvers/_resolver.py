"""What says where a service is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from duplex.resolvers._endpoint import Endpoint


class Resolver(Protocol):
    """Says where a service is, and says it again whenever that has changed. For :meth:`duplex.Peer.connect_service`."""

    def resolve(self, service: str) -> AsyncIterator[Iterable[str | Endpoint]]:
        """Give one set of endpoints after the other, each complete, as they become known.

        Usually an async generator, which is closed when nobody asks any more. If it raises, what was known stays, and it is
        called again after a pause; if it ends, what was known stays for good. What it waits for can be cancelled.

        Args:
            service: the name of the service.
        """
