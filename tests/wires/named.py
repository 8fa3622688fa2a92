"""Transports that go by other schemes, so that tests which name an endpoint run over what has another one."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable
from typing import Final

from duplex.transports import (
    Port,
    Receiver,
    Transport,
    TransportOptions,
    TurnTaker,
    ZmqTransport,
    ZmtpTransport,
    take_turns,
)
from tests.transports.certificates import tls

_PREFIX: Final = f"ipc://@duplex-tests-{os.getpid()}-"
_numbers: Final = itertools.count(1)


class NamedPort:
    """A port whose endpoint has the name that the test has for it."""

    def __init__(self, inner: Port, is_called: str, name: str) -> None:
        self._inner = inner
        self._is_called = is_called
        self._name = name

    def _named(self, text: str) -> str:
        return text.replace(self._is_called, self._name)

    @property
    def endpoint(self) -> str:
        return self._named(self._inner.endpoint)

    @property
    def last_error(self) -> str | None:
        error = self._inner.last_error
        return None if error is None else self._named(error)

    @property
    def attempt(self) -> str | None:
        attempt = self._inner.attempt
        return None if attempt is None else self._named(attempt)

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
        inner = _PREFIX + (f"n{next(_numbers)}" if name == "*" else name)
        return NamedPort(self._inner.bind(inner, receiver, options), _PREFIX, "memory://")

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        inner = _PREFIX + endpoint.removeprefix("memory://")
        return NamedPort(self._inner.connect(inner, receiver, options), _PREFIX, "memory://")


class EncryptedTransport:
    """See :class:`duplex.transports.Transport`: TLS in the place of names in memory. Each name has an address of this machine's own,
    which follows from it, so that one may connect before the other is bound."""

    schemes = frozenset({"memory"})

    def __init__(self) -> None:
        self._inner: Transport = ZmtpTransport()
        self._tls = dataclasses.replace(tls(), server_name="localhost")

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        name = endpoint.removeprefix("memory://")
        return self._port(self._inner.bind, f"n{next(_numbers)}" if name == "*" else name, receiver, options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return self._port(self._inner.connect, endpoint.removeprefix("memory://"), receiver, options)

    def _port(
        self,
        make: Callable[[str, Receiver, TransportOptions], Port],
        name: str,
        receiver: Receiver,
        options: TransportOptions,
    ) -> Port:
        first, second, third, high, low, *_ = hashlib.sha256(f"{os.getpid()} {name}".encode()).digest()
        place = (
            f"tls://127.{1 + first % 254}.{second}.{1 + third % 254}:{20_000 + (high * 256 + low) % 10_000}"
        )
        port = make(place, receiver, dataclasses.replace(options, tls=self._tls))
        return NamedPort(port, place, f"memory://{name}")


class LibzmqTransport:
    """See :class:`duplex.transports.Transport`: libzmq behind the schemes of sockets."""

    schemes = frozenset({"tcp", "ipc"})

    def __init__(self) -> None:
        self._inner: Transport = ZmqTransport()

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return NamedPort(self._inner.bind(f"zmq+{endpoint}", receiver, options), "zmq+", "")

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return NamedPort(self._inner.connect(f"zmq+{endpoint}", receiver, options), "zmq+", "")
