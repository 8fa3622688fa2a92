"""What says where a service is."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol, final

from duplex.resolvers._endpoint import Endpoint


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A set of endpoints with how good it is, for resolvers that know more than the endpoints. Iterating gives these."""

    #: All there are.
    endpoints: tuple[Endpoint, ...] = ()
    #: What is wrong, for a human: that those are old, or why there are none; ``None`` if nothing is.
    problem: str | None = dataclasses.field(default=None, kw_only=True)
    #: When this was last known to be so, in seconds since 1970; ``None``: it is so.
    as_of: float | None = dataclasses.field(default=None, kw_only=True)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)


class Resolver(Protocol):
    """Says where a service is, and says it again whenever that has changed. For :meth:`duplex.Peer.connect_service`."""

    def resolve(self, service: str) -> AsyncIterator[Iterable[str | Endpoint]]:
        """Give one set of endpoints after the other, each complete, as they become known; or a :class:`Known`.

        Usually an async generator, which is closed when nobody asks any more. If it raises, what was known stays, and it is
        called again after a pause; if it ends, what was known stays for good. What it waits for can be cancelled.

        Args:
            service: the name of the service.
        """
