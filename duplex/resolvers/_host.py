"""The addresses of a host, as the system knows them."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Final, final

import trio

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, check_seconds
from duplex.resolvers._endpoint import Endpoint

#: What the system says if there is no such host, or it has no address.
_NONE: Final = frozenset({socket.EAI_NONAME, *([socket.EAI_NODATA] if hasattr(socket, "EAI_NODATA") else [])})
HIGHEST_PORT: Final = 65535


def at(address: str, port: int) -> str:
    """Return the endpoint at an IP address and a port."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def split_port(text: str, where: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST:PORT``; ``ConfigurationError`` that names ``where`` if it is none."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit():
        raise ConfigurationError(f"{where!r} has to name a host and a port, such as calc.example:7700")
    if not 0 < int(port) <= HIGHEST_PORT:
        raise ConfigurationError(f"{where!r}: a port is a number from 1 to {HIGHEST_PORT}, not {port}")
    return host, int(port)


@final
class HostResolver:
    """The addresses of a host, IPv4 and IPv6, as the system knows them: from its own files and from name servers.

    The system does not say for how long that holds, so it is asked from time to time.

    Args:
        host: its name.
        port: of the endpoints.
        interval: seconds between questions.

    Raises:
        ConfigurationError: the interval is wrong.
    """

    def __init__(self, host: str, port: int, interval: float = 30.0) -> None:
        self._host = host
        self._port = port
        self._interval: float = check_seconds("interval", interval, low=LEAST_SECONDS)

    def __repr__(self) -> str:
        return f"<the addresses of host {self._host}>"

    async def resolve(self, service: str) -> AsyncIterator[Sequence[Endpoint]]:
        """See :meth:`Resolver.resolve`."""
        known: list[str] | None = None
        while True:
            found = await self._ask()
            if found != known:
                yield [Endpoint(address) for address in found]
                known = found
            await trio.sleep(self._interval)

    async def _ask(self) -> list[str]:
        try:
            # As bytes: what cannot be encoded as a name of a host is one that nobody has, and not an error of another kind.
            host = os.fsencode(self._host)
            answers = await trio.socket.getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NONE:
                return []
            raise
        return sorted({at(str(address[0]), self._port) for *_, address in answers})
