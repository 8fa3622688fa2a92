"""What is ``memory://`` over Unix sockets, so that tests which name an endpoint of memory run over real ones."""

from __future__ import annotations

import itertools
import os
from typing import Final

from duplex.transports import (
    Port,
    Receiver,
    Transport,
    TransportOptions,
    TurnTaker,
    ZmtpTransport,
    take_turns,
)

_PREFIX: Final = f"ipc://@duplex-tests-{os.getpid()}-"
_numbers: Final = itertools.count(1)


class NamedPort:
    """A port whose endpoint has the name that it would have in memory."""

    def __init__(self, inner: Port) -> None:
        self._inner = inner

    @property
    def endpoint(self) -> str:
        return self._inner.endpoint.replace(_PREFIX, "memory://")

    @property
    def last_error(self) -> str | None:
        error = self._inner.last_error
        return None if error is None else error.replace(_PREFIX, "memory://")

    async def run(self, taker: TurnTaker = take_turns) -> None:
        await self._inner.run(taker)

    def close(self, linger: float | None = None) -> None:
        self._inner.close(linger)


class NamedTransport:
    """See :class:`duplex.transports.Transport`: abstract names of Unix sockets in the place of names in memory."""

    schemes = frozenset({"memory"})

    def __init__(self) -> None:
        self._inner: Transport = ZmtpTransport()

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        name = endpoint.removeprefix("memory://")
        return NamedPort(
            self._inner.bind(_PREFIX + (f"n{next(_numbers)}" if name == "*" else name), receiver, options)
        )

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return NamedPort(self._inner.connect(_PREFIX + endpoint.removeprefix("memory://"), receiver, options))
