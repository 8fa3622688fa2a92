"""Pyro5 with its msgpack serializer and its server of threads.

A proxy belongs to one thread and does one call at a time, so each call in flight has a connection and a thread.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import Pyro5
import Pyro5.api

from benchmarks._payloads import CHUNK
from benchmarks.peers import Client, More
from benchmarks.peers._runtimes import Threads

Pyro5.config.SERIALIZER = "msgpack"
Pyro5.config.SERVERTYPE = "thread"
Pyro5.config.THREADPOOL_SIZE = 1500


@Pyro5.api.expose
class Service:
    """What is served; Pyro5 exposes no private names."""

    def echo(self, value: Any) -> Any:
        return value

    def repeat(self, value: Any) -> Iterator[Any]:
        while True:
            yield value

    def visit(self, value: Any, count: int, callback: Any) -> None:
        callback._pyroClaimOwnership()
        for _ in range(count):
            callback.echo(value)


@Pyro5.api.expose
class Callback:
    """What is called back."""

    @Pyro5.api.callback
    def echo(self, value: Any) -> Any:
        return value


class Pyro5Client(Client):
    """See the base class."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._local = threading.local()
        self._daemon: Any = None
        self._lock = threading.Lock()
        self._proxy._pyroBind()

    @property
    def _proxy(self) -> Any:
        proxy = getattr(self._local, "proxy", None)
        if proxy is None:
            proxy = self._local.proxy = Pyro5.api.Proxy(self._uri)
        return proxy

    async def unary(self, value: Any, /) -> Any:
        return self._proxy.echo(value)

    async def echo(self, data: bytes, /) -> Any:
        return self._proxy.echo(data)

    async def download(self, value: Any, more: More) -> None:
        for received, _ in enumerate(self._proxy.repeat(value), 1):
            if received % CHUNK == 0 and not more(CHUNK):
                break

    async def call_back(self, value: Any, count: int) -> None:
        callback = getattr(self._local, "callback", None)
        if callback is None:
            with self._lock:
                if self._daemon is None:
                    self._daemon = Pyro5.api.Daemon(host="127.0.0.1")
                    threading.Thread(target=self._daemon.requestLoop, daemon=True).start()
                callback = self._local.callback = Callback()
                self._daemon.register(callback)
        self._proxy.visit(value, count, callback)

    def close(self) -> None:
        self._proxy._pyroRelease()


class Pyro5Peer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "Pyro5.api"
    runtime: ClassVar[Threads] = Threads()

    def serve(self, announce: Callable[[str], None]) -> None:
        with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
            announce(str(daemon.register(Service())))
            daemon.requestLoop()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        client = Pyro5Client(address)
        try:
            yield client
        finally:
            client.close()


PEER = Pyro5Peer()
